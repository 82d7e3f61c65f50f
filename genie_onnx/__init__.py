"""genie-onnx: quantize float ONNX CNNs to a few bits, without data.

    result = genie_onnx.quantize("model.onnx")          # -> model.quant.onnx, verified in onnxruntime
    print(result.report.comparison)

The names below are the whole public interface. Each is imported when it is first asked for: torch takes seconds to load,
and neither `genie-onnx --help` nor an error about an option needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genie_onnx.accuracy import evaluate
    from genie_onnx.config import (
        PRESETS,
        DistillConfig,
        Effort,
        LayerBits,
        PlacementConfig,
        QuantizeConfig,
        ReconstructConfig,
        from_json,
        rounding_rate,
        to_json,
    )
    from genie_onnx.device import default_preset
    from genie_onnx.distillation import distill
    from genie_onnx.errors import (
        CancelledError,
        ConfigError,
        DataError,
        GenieError,
        InputError,
        ModelError,
        ParityError,
        RunError,
    )
    from genie_onnx.estimation import estimate
    from genie_onnx.events import Notice, Step, cancellable
    from genie_onnx.inspection import InspectedBlock, InspectedNode, InspectedValue, Inspection, inspect
    from genie_onnx.pipeline import Event, Progress, Result, quantize
    from genie_onnx.planning import ImagePlan, Plan, plan
    from genie_onnx.reexport import export
    from genie_onnx.report import Report
    from genie_onnx.run_status import RunStatus, status
    from genie_onnx.targets import TARGETS, Constraints, Form, Target
    from genie_onnx.team import Team, first_to_fail, join_team
    from genie_onnx.time_left import Estimate, TimeLeft
    from genie_onnx.validate.runtimes import OutputError, RuntimeFinding
    from genie_onnx.verification import Verification, verify

_HOMES = {
    "accuracy": ("evaluate",),
    "config": (
        "PRESETS",
        "DistillConfig",
        "Effort",
        "LayerBits",
        "PlacementConfig",
        "QuantizeConfig",
        "ReconstructConfig",
        "from_json",
        "rounding_rate",
        "to_json",
    ),
    "device": ("default_preset",),
    "estimation": ("estimate",),
    "events": ("Notice", "Step", "cancellable"),
    "distillation": ("distill",),
    "errors": ("CancelledError", "ConfigError", "DataError", "GenieError", "InputError", "ModelError", "ParityError", "RunError"),
    "inspection": ("InspectedBlock", "InspectedNode", "InspectedValue", "Inspection", "inspect"),
    "pipeline": ("Event", "Progress", "Result", "quantize"),
    "planning": ("ImagePlan", "Plan", "plan"),
    "reexport": ("export",),
    "report": ("Report",),
    "run_status": ("RunStatus", "status"),
    "team": ("Team", "first_to_fail", "join_team"),
    "time_left": ("Estimate", "TimeLeft"),
    "targets": ("TARGETS", "Constraints", "Form", "Target"),
    "validate.runtimes": ("OutputError", "RuntimeFinding"),
    "verification": ("Verification", "verify"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "PRESETS",
    "TARGETS",
    "CancelledError",
    "ConfigError",
    "Constraints",
    "DataError",
    "DistillConfig",
    "Effort",
    "Estimate",
    "Event",
    "Form",
    "GenieError",
    "ImagePlan",
    "InputError",
    "InspectedBlock",
    "InspectedNode",
    "InspectedValue",
    "Inspection",
    "LayerBits",
    "ModelError",
    "Notice",
    "OutputError",
    "ParityError",
    "PlacementConfig",
    "Plan",
    "Progress",
    "QuantizeConfig",
    "ReconstructConfig",
    "Report",
    "Result",
    "RunError",
    "RunStatus",
    "RuntimeFinding",
    "Step",
    "Target",
    "Team",
    "TimeLeft",
    "Verification",
    "cancellable",
    "default_preset",
    "distill",
    "estimate",
    "evaluate",
    "export",
    "first_to_fail",
    "from_json",
    "inspect",
    "join_team",
    "plan",
    "quantize",
    "rounding_rate",
    "status",
    "to_json",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'genie_onnx' has no attribute {name!r}")
    return getattr(import_module(f"genie_onnx.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
