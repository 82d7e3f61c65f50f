"""The file given with --bn-from: an ONNX with BatchNormalization kept, a torch state_dict or safetensors of the same network.

    model with BatchNormalization folded + FILE -> the same, with `borrowed` statistics of the outputs of its layers

A torch file is read with weights_only=True: nothing in it is run, and one that would need that is refused.
"""

from __future__ import annotations

import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from genie_onnx import graph
from genie_onnx.errors import ConfigError
from genie_onnx.graph import Reference
from genie_onnx.preparation.prepare import Prepared

# What torch raises on files that are not its own, are damaged, or would run code
_UNREADABLE = (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, ImportError)
_DAMAGED = (*_UNREADABLE, pickle.UnpicklingError, zipfile.BadZipFile, struct.error, MemoryError, UnicodeError)


def with_bn_from(prepared: Prepared, file: str | os.PathLike[str] | None) -> Prepared:
    """Return `prepared` with the statistics of `file`; as it is where there is none.

    Raises ConfigError, or ModelError for an ONNX, in one line, where the file cannot be read or is not of the same network.
    """
    if file is None:
        return prepared
    return replace(prepared, borrowed=graph.borrow(prepared.normalised, read_reference(Path(file))))


def read_reference(path: Path) -> Reference:
    """Return the layers of the file. Raises ConfigError, or ModelError for an ONNX, in one line, where it cannot be read."""
    if not path.is_file():
        raise ConfigError(f"{path}, given with --bn-from, {'is a directory' if path.is_dir() else 'does not exist'}")
    match path.suffix.lower():
        case ".onnx":
            return graph.graph_reference(graph.normalise(graph.load(path)), str(path))
        case ".safetensors":
            tensors = _safetensors(path)
        case _:
            tensors = _state_dict(path)
    if not tensors:
        raise ConfigError(f"{path} holds no tensors: save model.state_dict() into it")
    return graph.state_reference({key: t.to(torch.float32).numpy() for key, t in tensors.items()}, str(path))


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return _floating(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, *_DAMAGED) as error:
        raise ConfigError(f"{path} is not a readable safetensors file: {_first_line(error)}") from error


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles, which are then read or refused
            return _floating(torch.load(path, map_location="cpu", weights_only=True))
    except _DAMAGED as error:
        raise ConfigError(
            f"{path} is no state_dict that can be read without running code from it ({_first_line(error)}): save one with "
            "torch.save(model.state_dict(), file), or give an ONNX file or safetensors"
        ) from error


def _floating(loaded: object) -> dict[str, Tensor]:
    """Return the floating-point tensors of a checkpoint by dotted name, however deep its dicts are nested."""

    def walk(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
        if isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided and not value.is_meta:
            yield name, value.detach()
        elif isinstance(value, dict):
            for key, entry in value.items():
                yield from walk(entry, f"{name}.{key}" if name else str(key))

    return dict(walk(loaded, ""))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .") if lines else type(error).__name__
