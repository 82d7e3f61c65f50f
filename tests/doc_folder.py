"""The folder in which the commands of README and docs are run: the files that they name, small and made here.

model.onnx         a classifier of 3x16x16 pictures into 10 classes, BatchNorm kept, exported by torch; folded.onnx: folded
checkpoint.pth     its state_dict
detector.onnx      the same trunk with two outputs, scores and boxes
model.quant.onnx   model.onnx quantized, with its report and its run directory model.quant.genie
photos/, val/      pictures; in folders of classes. labels.csv: classes of photos/
examples/          those of the repository
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import genie_onnx
from genie_onnx import DistillConfig, QuantizeConfig, ReconstructConfig
from genie_onnx.synthesis import procedural

SHAPE = (3, 16, 16)
CLASSES = 10
ROOT = Path(__file__).parent.parent


def unit(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution, BatchNorm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Classifier(nn.Module):
    """float32 [N, 3, H, W] -> scores [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer1, self.layer2 = unit(3, 8, 2), unit(8, 8, groups=8), unit(8, 16, 2)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))


class Detector(Classifier):
    """float32 [N, 3, H, W] -> scores [N, 3, H / 2, W / 2], boxes [N, 4, H / 2, W / 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.boxes = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layer1(self.stem(x))
        return self.scores(x), self.boxes(x)


def classifier(checkpoint: Path) -> nn.Module:
    """The classifier of the folder, in evaluation mode."""
    net = Classifier()
    net.load_state_dict(torch.load(checkpoint))
    return net.eval()


def trained(net: nn.Module) -> nn.Module:
    """`net` with statistics that its BatchNorm layers measured, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    net.train()
    with torch.no_grad():
        for _ in range(20):
            net(procedural(32, SHAPE, mean=(0,) * 3, std=(1,) * 3, generator=generator))
    return net.eval()


def export(net: nn.Module, path: Path, outputs: list[str], keep: bool = True, size: int = SHAPE[1]) -> None:
    """Export `net` for pictures of `size` x `size`, with its BatchNorm kept or folded."""
    how = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False} if keep else {}
    names = {"input_names": ["image"], "output_names": outputs}
    axes = {name: {0: "N"} for name in ("image", *outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(net, (torch.zeros(1, 3, size, size),), str(path), dynamo=False, dynamic_axes=axes, **names, **how)


def as_keras(net: nn.Module) -> SimpleNamespace:
    """The layers of `net` as Keras 3 has them: classes, names and orders of axes."""
    layers = []
    for name, module in net.named_modules():
        kind, arrays = "Layer", dict[str, Tensor | None]()
        if isinstance(module, nn.Conv2d):
            kind, order = ("DepthwiseConv2D", (2, 3, 0, 1)) if module.groups > 1 else ("Conv2D", (2, 3, 1, 0))
            arrays["kernel"] = module.weight.permute(order)
        elif isinstance(module, nn.Linear):
            arrays |= {"kernel": module.weight.T, "bias": module.bias}
        elif isinstance(module, nn.BatchNorm2d):
            arrays |= {"gamma": module.weight, "beta": module.bias}
            arrays |= {"moving_mean": module.running_mean, "moving_variance": module.running_var}
        weights = [SimpleNamespace(name=key, numpy=array.detach().numpy) for key, array in arrays.items() if array is not None]
        layers.append(type(kind, (SimpleNamespace,), {})(name=name, weights=weights))
    return SimpleNamespace(layers=layers)


def make(folder: Path) -> None:
    """Write all of it into `folder`."""
    torch.manual_seed(0)
    net = trained(Classifier())
    export(net, folder / "model.onnx", ["scores"])
    export(net, folder / "folded.onnx", ["scores"], keep=False)
    export(net, folder / "imagenet.onnx", ["scores"], size=224)
    shutil.copy(folder / "imagenet.onnx", folder / "imagenet.quant.onnx")
    export(trained(Detector()), folder / "detector.onnx", ["scores", "boxes"])
    torch.save(net.state_dict(), folder / "checkpoint.pth")
    pictures = np.random.default_rng(0).integers(0, 256, (2 * CLASSES, 20, 24, 3), dtype=np.uint8)
    for index, pixels in enumerate(pictures):
        for path in (folder / "photos" / f"{index:02d}.jpg", folder / "val" / f"{index % CLASSES}" / f"{index:02d}.jpg"):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    lines = [f"{index:02d}.jpg,{index % CLASSES}" for index in range(len(pictures))]
    (folder / "labels.csv").write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("*.genie", "*.quant.*"))
    config = QuantizeConfig(
        distill=DistillConfig(iterations=1, start="leaves"), reconstruct=ReconstructConfig(iterations=2), samples=8
    )
    genie_onnx.quantize(folder / "model.onnx", config=config)
