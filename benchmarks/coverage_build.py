"""The model files of one network, made in every way that is asked for: FOLDER/SOURCE/NET/WAY.onnx."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import coverage_graph_styles
import coverage_own_nets
import coverage_torchvision
import onnx
import torch
from coverage_exports import export, settle
from coverage_process import Tell


def build_all(tell: Tell, folder: Path, packages: Path | None, source: str, net: str, size: int, ways: Sequence[str]) -> None:
    """Write the files that are not there yet; tell of each that cannot be had: way, absent (why)."""
    torch.set_num_threads(1)
    if packages is not None:
        sys.path.insert(0, str(packages))
    for way in ways:
        file = path(folder, source, net, way)
        if file.exists():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            build(source, net, size, way, file)
        except Exception as error:  # an exporter fails in many ways, and what it says is the finding
            tell(way=way, absent=f"{type(error).__name__}: {' '.join(str(error).split())}"[:300])


def path(folder: Path, source: str, net: str, way: str) -> Path:
    """Return where the file of a row is."""
    return folder / source / net / f"{way}.onnx"


def build(source: str, net: str, size: int, way: str, file: Path) -> None:
    """Write one file. The same names give the same file."""
    torch.manual_seed(0)
    makers: dict[str, Callable[[], onnx.ModelProto]] = {
        "styles": lambda: coverage_graph_styles.STYLES[net](),
        "onnx-light": lambda: coverage_graph_styles.light(net),
    }
    if source in makers:
        onnx.save(makers[source](), file)
    elif source == "own":
        make, shape = coverage_own_nets.NETS[net]
        export(settle(make(), shape), shape, way, file)
    else:
        shape = (3, size, size)
        export(settle(coverage_torchvision.build(net, size), shape), shape, way, file)
