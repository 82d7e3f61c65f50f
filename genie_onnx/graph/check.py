"""first version"""
from __future__ import annotations

import onnx_ir as ir


def problems(model: ir.Model) -> list[str]:
    """First version."""
    return []


def check(model: ir.Model) -> None:
    """First version."""
