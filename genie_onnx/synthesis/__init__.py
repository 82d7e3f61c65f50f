"""Calibration images without data: GENIE-D (from BatchNorm statistics, or plausible ones) and procedural ones."""

from genie_onnx.synthesis.bn_loss import BatchNormStatistics, with_measurements
from genie_onnx.synthesis.classes import decisive
from genie_onnx.synthesis.contact_sheet import save_contact_sheet, viewable
from genie_onnx.synthesis.distill import batch_sizes, distill
from genie_onnx.synthesis.footprint import image_bytes
from genie_onnx.synthesis.plausible import plausible
from genie_onnx.synthesis.procedural import is_picture, procedural
from genie_onnx.synthesis.statistics import measure

__all__ = [
    "BatchNormStatistics",
    "batch_sizes",
    "decisive",
    "distill",
    "image_bytes",
    "is_picture",
    "measure",
    "plausible",
    "procedural",
    "save_contact_sheet",
    "viewable",
    "with_measurements",
]
