"""Codes and grids -> an ONNX file in QDQ form."""

from __future__ import annotations

from genie_onnx.exporter.assemble import Codes, export, require_container
from genie_onnx.exporter.files import save

__all__ = ["Codes", "export", "require_container", "save"]
