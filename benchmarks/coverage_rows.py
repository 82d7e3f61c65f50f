"""The rows of the coverage table: which networks, exported in which ways, and how each is to be judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coverage_graph_styles import LIGHT, STYLES
from coverage_own_nets import NETS
from coverage_torchvision import FEW_SHOT, SIZES

WAYS = ("legacy", "legacy-bn", "dynamo", "dynamo-18", "dynamo-23")
OLD = ("legacy-9", "legacy-10", "legacy-11", "legacy-12")
OLD_NETS = ("unet", "yolo", "deconvolution", "grouped_dilated")  # the legacy exporter has all their operators in opset 9
RAW_PIXELS = ("mlperf_resnet8_bn", "yolox_nano", "yunet_n_320_320")  # of the zoo: they take 0..255
LARGE = {"resnet18": 224, "mobilenet_v2": 224}  # once more at the size at which they are used


@dataclass(frozen=True)
class Row:
    """One model file. `file` is given where it exists already; else `coverage_build.py` makes it at `size`."""

    source: str
    net: str
    way: str
    file: Path | None = None
    size: int = 0  # height and width of the export; 0: that of the network
    open_size: tuple[int, int] | None = None  # (H, W) to calibrate at, where the file leaves them open
    raw_pixels: bool = False
    few_shot: bool = False

    @property
    def name(self) -> str:
        """source/net/way, unique."""
        return f"{self.source}/{self.net}/{self.way}"


def all_rows(bench: Path | None) -> list[Row]:
    """Return every row; the zoo's only where the folder `bench` is given."""
    rows = []
    if bench is not None:
        files = sorted([*bench.glob("zoo/*.onnx"), *bench.glob("cifar/*.onnx"), *bench.glob("imagenet/*.onnx")])
        rows += [
            Row("zoo", f.stem, "file", f, raw_pixels=f.stem in RAW_PIXELS, open_size=(48, 48) if "dncnn" in f.stem else None)
            for f in files
        ]
    rows += [Row("onnx-light", f.stem.removeprefix("light_"), "opset-9") for f in sorted(LIGHT.glob("light_*.onnx"))]
    rows += [Row("styles", net, "file") for net in STYLES]
    for net, (_, shape) in NETS.items():
        rows += [Row("own", net, way) for way in (*WAYS, *(OLD if net in OLD_NETS else ()))]
        rows += [Row("own", net, "legacy-open", open_size=shape[1:])] if net != "mixer" else []  # attention needs the size
    for way in WAYS:
        rows += [Row("torchvision", net, way, size=size, few_shot=net in FEW_SHOT) for net, size in SIZES.items()]
    rows += [Row(f"torchvision-{size}", net, way, size=size) for net, size in LARGE.items() for way in ("legacy-bn", "dynamo")]
    return rows
