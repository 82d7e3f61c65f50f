"""Calibration images without data: GENIE-D (from BatchNorm statistics) and procedural ones."""

from genie_onnx.distill.bn_loss import BatchNormStatistics, with_measurements
from genie_onnx.distill.contact_sheet import save_contact_sheet
from genie_onnx.distill.dead_leaves import procedural
from genie_onnx.distill.distill import DistillProgress, batch_sizes, distill
from genie_onnx.distill.statistics import measure

__all__ = [
    "BatchNormStatistics",
    "DistillProgress",
    "batch_sizes",
    "distill",
    "measure",
    "procedural",
    "save_contact_sheet",
    "with_measurements",
]
