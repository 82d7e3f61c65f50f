"""Codes and grids -> an ONNX file in QDQ form."""

from __future__ import annotations

from genie_onnx.exporter.aimet import aimet_encodings
from genie_onnx.exporter.assemble import Codes, export, require_form
from genie_onnx.exporter.encodings import encodings
from genie_onnx.exporter.files import save
from genie_onnx.exporter.fixed_shapes import fix_shapes
from genie_onnx.exporter.mnn import mnn_parameters

__all__ = ["Codes", "aimet_encodings", "encodings", "export", "fix_shapes", "mnn_parameters", "require_form", "save"]
