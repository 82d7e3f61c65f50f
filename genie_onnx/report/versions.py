"""Which versions of what made a file."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("genie-onnx", "torch", "onnx", "onnx-ir", "onnx2torch", "numpy", "numba")


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of the libraries that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    for package in ("onnxruntime-gpu", "onnxruntime"):  # one of them
        try:
            found["onnxruntime"] = metadata.version(package)
            break
        except metadata.PackageNotFoundError:
            continue
    return found
