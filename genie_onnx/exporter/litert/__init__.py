"""QDQ files -> integer .tflite files (LiteRT, TensorFlow Lite for Microcontrollers, Vela)."""

from __future__ import annotations

from genie_onnx.exporter.litert.convert import to_tflite

__all__ = ["to_tflite"]
