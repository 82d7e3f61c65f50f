"""The networks of gpu_once.sh as ONNX files with random weights, for a machine that lacks torchvision.

    python benchmarks/gpu_models.py FOLDER [NETWORK ...] [--size 224]

Writes FOLDER/NETWORK.onnx with BatchNorm kept, for resnet18 (46 MB) and mobilenet_v2 (14 MB) unless others are named.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import coverage_torchvision
import torch
from coverage_exports import export, settle

NETWORKS = ("resnet18", "mobilenet_v2")


def write(name: str, size: int, file: Path) -> None:
    """Write a network of torchvision at `size` x `size` to `file`, the same weights every time."""
    torch.manual_seed(0)
    shape = (3, size, size)
    export(settle(coverage_torchvision.build(name, size), shape), shape, "legacy-bn", file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--size", type=int, default=224, help="height and width of an image")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.networks:
        file = options.folder / f"{name}.onnx"
        write(name, options.size, file)
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
