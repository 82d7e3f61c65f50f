"""The charts of what was measured, from benchmarks/measured.toml: before and after, accuracy against time, accuracy against bits.

    python docs/charts.py [FOLDER]

writes SVG files into FOLDER (default: docs/images, where they are kept), in a second. The background is transparent, and all
colours can be read on white and on black: pages are shown in both. Needs matplotlib.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
GREY = "#7d838b"  # 3.8 : 1 on white, 5.0 : 1 on #0d1117
COLOURS = {
    "genie-onnx, 256 images": "#2f81f7",
    "genie-onnx, no data": "#1a9e96",
    "learning alone (the paper), 256 images": "#9a6dd7",
    "onnxruntime quantize_static": "#d9730d",
    "aimet-onnx SeqMSE": "#d14d72",
    "esp-ppq LSQ": "#8a8f2a",
}
MARKERS = dict(zip(COLOURS, "oDvs^P", strict=True))
NUMBERS = {  # where they stand, in points from theirs: above, unless another series is close by
    "genie-onnx, no data": (0, -12),
    "onnxruntime quantize_static": (-15, -3),
    "aimet-onnx SeqMSE": (16, -4),
    "esp-ppq LSQ": (0, -12),
}
BITS = ["W8A8", "W4A8", "W3A8", "W4A4", "W2A4", "W2A2"]
FLOAT = {"ResNet-20": 81.03, "MobileNetV1-0.75": 76.8}
TITLES = {
    "ResNet-20": "ResNet-20, CIFAR-10 as JPEG: top-1, %",
    "MobileNetV1-0.75": "MobileNetV1-0.75, 224x224: top-1, %",
}
STYLE: dict[Any, Any] = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "savefig.transparent": True,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "genie-onnx",  # the same bytes for the same numbers
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
}
Rows = list[dict[str, Any]]


def before_after(measured: dict[str, Rows]) -> Figure:
    """One panel a quantity, one bar a width."""
    titles = {"megabytes": "weights, MB", "top1": "top-1, %", "times_as_fast": "times as fast in onnxruntime"}
    figure, panels = plt.subplots(1, 3, figsize=(8, 1.9))
    for axes, (quantity, title) in zip(panels, titles.items(), strict=True):
        rows = measured[quantity]
        if quantity == "times_as_fast":
            rows = [{"bits": "float", "value": 1.0}, *rows]
        names, values = [row["bits"] for row in rows], [row["value"] for row in rows]
        colours = [GREY if name == "float" else COLOURS["genie-onnx, 256 images"] for name in names]
        bars = axes.barh(names, values, 0.65, color=colours)
        axes.bar_label(bars, [f"{value:g}" for value in values], padding=3)
        axes.set(title=title, xticks=[], xlim=(0, 1.2 * max(values)))
        axes.invert_yaxis()
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(length=0)
    figure.tight_layout(w_pad=2)
    return figure


def against_time(measured: dict[str, Rows]) -> Figure:
    """Top-1 at W4A4 against CPU seconds: one line for each who measured."""
    figure, panels = plt.subplots(1, 2, figsize=(8.5, 3.6))
    for axes, (network, rows) in zip(panels, measured.items(), strict=True):
        for name in COLOURS:
            points = sorted((row["cpu_s"], row["top1"]) for row in rows if row["by"] == name)
            _line(axes, name, points)
        axes.set_xscale("log")
        axes.set(title=f"{TITLES[network]}, W4A4", xlabel="CPU seconds of the whole command")
        _float(axes, network)
    return _with_legend(figure, panels)


def against_bits(measured: dict[str, Rows]) -> Figure:
    """Top-1 against widths."""
    figure, panels = plt.subplots(1, 2, figsize=(8.5, 3.6))
    for axes, (network, rows) in zip(panels, measured.items(), strict=True):
        widths = [bits for bits in BITS if any(row["bits"] == bits for row in rows)]
        for name in COLOURS:
            points = sorted((float(widths.index(row["bits"])), row["top1"]) for row in rows if row["by"] == name)
            _line(axes, name, points)
        axes.set(title=TITLES[network], xlim=(-0.5, len(widths) - 0.5))
        axes.set_xticks(range(len(widths)), widths)
        _float(axes, network)
    return _with_legend(figure, panels)


def _line(axes: Axes, name: str, points: list[tuple[float, float]]) -> None:
    if not points:
        return
    x, y = zip(*points, strict=True)
    axes.plot(x, y, color=COLOURS[name], marker=MARKERS[name], markersize=5, linewidth=1, label=name)
    for point in points:
        where = NUMBERS.get(name, (0, 5))
        axes.annotate(f"{point[1]:g}", point, where, textcoords="offset points", ha="center", fontsize=7)


def _float(axes: Axes, network: str) -> None:
    """A line for the float network, and room for numbers."""
    axes.axhline(FLOAT[network], color=GREY, linewidth=0.8, linestyle=":")
    where = ("axes fraction", "data")
    axes.annotate("float", (1, FLOAT[network]), (3, -3), xycoords=where, textcoords="offset points", fontsize=7)
    axes.margins(x=0.1, y=0.12)


def _with_legend(figure: Figure, panels: Any) -> Figure:
    handles = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    named = {name: handles[name] for name in COLOURS if name in handles}
    figure.legend(list(named.values()), list(named), loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.12, 1, 1), w_pad=2)
    return figure


def main(folder: Path) -> None:
    matplotlib.rcParams |= STYLE
    measured = tomllib.loads((ROOT / "benchmarks" / "measured.toml").read_text(encoding="utf-8"))
    drawn = {
        "before-after": before_after(measured["before_after"]),
        "accuracy-time": against_time(measured["time"]),
        "accuracy-bits": against_bits(measured["bits"]),
    }
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
