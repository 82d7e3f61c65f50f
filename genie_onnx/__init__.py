"""genie-onnx: quantize float ONNX CNNs to a few bits, without data.

    result = genie_onnx.quantize("model.onnx")          # -> model.quant.onnx, verified in onnxruntime
    print(result.report.comparison)

The names below are the whole public interface.
"""

from genie_onnx.accuracy import evaluate
from genie_onnx.config import (
    PRESETS,
    DistillConfig,
    Effort,
    PlacementConfig,
    QuantizeConfig,
    ReconstructConfig,
    from_json,
    to_json,
)
from genie_onnx.device import default_preset
from genie_onnx.distill import DistillProgress
from genie_onnx.distillation import distill_images
from genie_onnx.errors import ConfigError, DataError, GenieError, InputError, ModelError, ParityError, RunError
from genie_onnx.inspection import Inspection, inspect
from genie_onnx.pipeline import Event, Plan, Progress, Result, plan, quantize
from genie_onnx.report import Report

__all__ = [
    "PRESETS",
    "ConfigError",
    "DataError",
    "DistillConfig",
    "DistillProgress",
    "Effort",
    "Event",
    "GenieError",
    "InputError",
    "Inspection",
    "ModelError",
    "ParityError",
    "PlacementConfig",
    "Plan",
    "Progress",
    "QuantizeConfig",
    "ReconstructConfig",
    "Report",
    "Result",
    "RunError",
    "default_preset",
    "distill_images",
    "evaluate",
    "from_json",
    "inspect",
    "plan",
    "quantize",
    "to_json",
]
