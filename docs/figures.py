"""The figures of docs/explanation/method.md, made by the package: images and curves from examples/digits.onnx.

    python docs/figures.py [FOLDER]

writes PNG and SVG files into FOLDER (default: docs/images, where they are kept). Takes minutes on a CPU; needs matplotlib.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

import genie_onnx
from genie_onnx import DistillConfig, PlacementConfig, QuantizeConfig, ReconstructConfig, Step
from genie_onnx.config import Start
from genie_onnx.quant.fake_quant import fake_quantize
from genie_onnx.quant.masks import MaskSource
from genie_onnx.quant.ranges import weight_grid
from genie_onnx.quant.rounding import h
from genie_onnx.synthesis.swing_conv import swing

ROOT = Path(__file__).parent.parent
MODEL, TEST = ROOT / "examples" / "digits.onnx", ROOT / "examples" / "digits_test.npz"
STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
SHOWN = (1, 8, 32, 128)  # steps after which images are shown
IMAGES = 32
STARTS: dict[Start, str] = {"leaves": "dead leaves", "generator": "the generator", "noise": "noise"}


def distilled(start: Start, steps: int, folder: Path) -> tuple[np.ndarray, float]:
    """Return images [N, 1, 16, 16] after so many steps, and their BN loss before the last of them."""
    losses = []

    def told(event: genie_onnx.Event) -> None:
        if isinstance(event, Step) and event.loss is not None:
            losses.append(event.loss)

    config = QuantizeConfig(images="distill", samples=IMAGES, distill=DistillConfig(iterations=steps, start=start))
    run = genie_onnx.distill(MODEL, folder / f"{start}{steps}", config=config, progress=told)
    with np.load(run.images) as arrays:
        return arrays["images"], losses[-1]


def distillation(folder: Path) -> tuple[Figure, Figure]:
    """Images on their way from dead leaves, and the BN loss on the way from three starts."""
    made = {(start, steps): distilled(start, steps, folder) for start in STARTS for steps in STEPS}
    images, rows = plt.subplots(len(SHOWN), 12, figsize=(7, 2.7))
    for steps, row in zip(SHOWN, rows, strict=True):
        for axes, image in zip(row, made["leaves", steps][0], strict=False):
            axes.imshow(image[0], cmap="gray")
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"{steps}", rotation=0, ha="right", va="center")
    images.subplots_adjust(0.06, 0.02, 0.99, 0.98, 0.08, 0.08)

    losses, axes = plt.subplots(figsize=(6, 3.2))
    for start, name in STARTS.items():
        axes.loglog(STEPS, [made[start, steps][1] for steps in STEPS], marker="o", label=f"from {name}")
    axes.set(xlabel="step", ylabel="distance from the stored statistics")
    axes.legend()
    losses.tight_layout()
    return images, losses


def swing_convolution() -> Figure:
    """How often a 3x3 convolution of stride 2 reads each pixel, without and with the shifts of swing convolution."""
    generator = torch.Generator().manual_seed(0)
    draws = 500

    def reads(shifted: bool) -> torch.Tensor:
        x = torch.zeros(1, 1, 16, 16, requires_grad=True)
        for offsets in torch.randint(0, 3, (draws, 2), generator=generator).tolist():
            F.conv2d(swing(x, offsets if shifted else (1, 1)), torch.ones(1, 1, 3, 3), stride=2, padding=1).sum().backward()
        assert x.grad is not None
        return x.grad[0, 0] / draws

    figure, panels = plt.subplots(1, 2, figsize=(6, 3))
    for axes, (name, shifted) in zip(panels, {"stride 2": False, "stride 2, swinging": True}.items(), strict=True):
        image = axes.imshow(reads(shifted), vmin=0, vmax=4)
        axes.set(title=name, xticks=[], yticks=[])
    figure.colorbar(image, ax=panels, label="reads in a step, on average")
    return figure


def soft_rounding() -> Figure:
    """h(v), and the term that pushes it to 0 or 1, for falling beta."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3))
    v = torch.linspace(-5, 5, 400)
    left.plot(v, h(v))
    left.set(xlabel="v", ylabel="h(v)", title="soft bit")
    soft = torch.linspace(0, 1, 400)
    for beta in (20, 8, 4, 2):
        right.plot(soft, 1 - (2 * soft - 1).abs() ** beta, label=f"beta = {beta}")
    right.set(xlabel="h(v)", ylabel="1 - |2 h(v) - 1|^beta", title="what an undecided bit costs")
    right.legend()
    figure.tight_layout()
    return figure


def step_search() -> Figure:
    """The error of a weight on a 3-bit grid against the share of its range that the grid spans."""
    weight = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0))
    low, high = weight.amin(), weight.amax()
    ratios = torch.arange(1, 101) / 100
    full, zero = (high - low) / 7, torch.round(-low / ((high - low) / 7))
    errors = [((fake_quantize(weight, full * r, int(zero), 7) - weight).abs() ** 2.4).mean() for r in ratios]
    found = weight_grid(weight, 3).scale.item() / full.item()
    figure, axes = plt.subplots(figsize=(6, 3))
    axes.plot(ratios, errors)
    axes.axvline(found, color="gray", linestyle="--", label=f"found: {found:.2f} of the range")
    axes.set(xlabel="share of the range", ylabel="mean |w - w_q|^2.4", ylim=(0, 0.3))
    axes.legend()
    figure.tight_layout()
    return figure


def random_dropping() -> Figure:
    """What a 2-bit value becomes in one step of reconstruction: every element rounded, or half of them."""
    x = torch.linspace(-0.5, 3.5, 160)
    figure, panels = plt.subplots(1, 2, figsize=(7, 3), sharey=True)
    for axes, (name, keep) in zip(panels, {"rounded": 1.0, "QDrop: every second at random": 0.5}.items(), strict=True):
        bits = MaskSource(keep, torch.Generator().manual_seed(0)).draw(len(x))
        axes.plot(x, fake_quantize(x, torch.tensor(1.0), 0, 3, bits), ".", markersize=4)
        axes.set(title=name, xlabel="x")
    figure.tight_layout()
    return figure


def accuracy(wbits: int, abits: int, iterations: int, images: Path, folder: Path) -> tuple[float, genie_onnx.Report]:
    """Return top-1 of the example in %, after so many iterations a block on `images`; 0: rounded to nearest."""
    config = QuantizeConfig(
        placement=PlacementConfig(wbits=wbits, abits=abits),
        reconstruct=ReconstructConfig(iterations=iterations, rounding_lr=genie_onnx.rounding_rate(iterations)),
        closed_form=None,
        samples=128,
    )
    output = folder / f"w{wbits}a{abits}.{iterations}.onnx"
    report = genie_onnx.quantize(MODEL, output, config=config, data=[images]).report
    return 100 * genie_onnx.evaluate(output, [TEST]).top1, report


def reconstruction(folder: Path) -> Figure:
    """Accuracy with weights rounded to nearest and with learned rounding, and the error of each block at W2A4."""
    config = QuantizeConfig(images="distill", samples=128, distill=DistillConfig(iterations=100, start="leaves"))
    images = genie_onnx.distill(MODEL, folder / "images", config=config).images
    bits = ((4, 4), (3, 4), (2, 4))
    found = {(w, a, n): accuracy(w, a, n, images, folder) for w, a in bits for n in (0, 300)}
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    places = np.arange(len(bits))
    for shift, (n, name) in zip((-0.2, 0.2), {0: "to nearest", 300: "learned"}.items(), strict=True):
        bars = left.bar(places + shift, [found[w, a, n][0] for w, a in bits], 0.4, label=name)
        left.bar_label(bars, fmt="%.1f", fontsize=8)
    left.set(ylabel="top-1, %", ylim=(0, 110), xticks=places, xticklabels=[f"W{w}A{a}" for w, a in bits])
    left.legend(loc="lower left", framealpha=1)
    blocks = found[2, 4, 300][1].blocks
    numbers = range(1, len(blocks) + 1)
    right.semilogy(numbers, [block.before for block in blocks], "o", label="first iteration")
    right.semilogy(numbers, [block.after for block in blocks], "o", label="last iteration")
    right.set(xlabel="block", ylabel="error of the block's output", title="W2A4", xticks=numbers)
    right.legend()
    figure.tight_layout()
    return figure


def main(folder: Path) -> None:
    # The same bytes for the same curves
    matplotlib.rcParams |= {"svg.hashsalt": "genie-onnx", "figure.dpi": 100, "axes.spines.top": False, "axes.spines.right": False}
    with tempfile.TemporaryDirectory() as runs:
        images, losses = distillation(Path(runs))
        learned = reconstruction(Path(runs))
    images.savefig(folder / "distilled_images.png", dpi=130)
    swing_convolution().savefig(folder / "swing.png")
    drawn = {"bn_loss": losses, "reconstruction": learned, "soft_rounding": soft_rounding()}
    drawn |= {"step_search": step_search(), "qdrop": random_dropping()}
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
