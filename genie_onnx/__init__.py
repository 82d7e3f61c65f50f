"""genie-onnx: quantize float ONNX CNNs to a few bits, without data.

    result = genie_onnx.quantize("model.onnx")          # -> model.quant.onnx, verified in onnxruntime
    print(result.report.comparison)

The names below are the whole public interface. Each is imported when it is first asked for: torch takes seconds to load,
and neither `genie-onnx --help` nor an error about an option needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genie_onnx.bits.plan import BitPlan, BlockBits, ValueBits
    from genie_onnx.comparison.comparison import compare
    from genie_onnx.config import (
        BitGoal,
        ClosedFormConfig,
        DistillConfig,
        LayerBits,
        PlacementConfig,
        QuantizeConfig,
        ReconstructConfig,
        from_json,
        to_json,
    )
    from genie_onnx.delivery.verification import Verification, verify
    from genie_onnx.effort import PRESETS, Effort, rounding_rate
    from genie_onnx.environment import Finding, doctor
    from genie_onnx.errors import (
        CancelledError,
        ConfigError,
        DataError,
        GenieError,
        InputError,
        ModelError,
        ParityError,
        QualityError,
        RunError,
    )
    from genie_onnx.evaluation.accuracy import evaluate
    from genie_onnx.evaluation.evaluation import Evaluation, ModelEvaluation
    from genie_onnx.events import Notice, Step, cancellable
    from genie_onnx.framing import Framing
    from genie_onnx.machine.device import default_preset
    from genie_onnx.machine.team import Team, first_to_fail, join_team
    from genie_onnx.pipeline.distillation import distill
    from genie_onnx.pipeline.estimation import estimate
    from genie_onnx.pipeline.inspection import InspectedBlock, InspectedNode, InspectedValue, Inspection, inspect
    from genie_onnx.pipeline.planning import ImagePlan, Plan, plan
    from genie_onnx.pipeline.quantize import Event, Progress, quantize
    from genie_onnx.pipeline.reexport import export
    from genie_onnx.pipeline.reporting import html_report
    from genie_onnx.pipeline.result import Result
    from genie_onnx.pipeline.time_left import Estimate, TimeLeft
    from genie_onnx.preparation.naming import node_operators
    from genie_onnx.preprocessing import RECIPES, Recipe
    from genie_onnx.report import Report, versions
    from genie_onnx.requirements import Requirements
    from genie_onnx.run.status import RunStatus, status
    from genie_onnx.targets import TARGETS, Constraints, Form, Target
    from genie_onnx.tools import TOOLS, Tool, advice, unfit_for_portable
    from genie_onnx.validate import Confusion, Figure, PairedDifference
    from genie_onnx.validate.layerwise import Advice, BlockFinding, Effect, Findings, ValueFinding, WeightFinding
    from genie_onnx.validate.quality import OutputQuality, Quality
    from genie_onnx.validate.runtimes import OutputError, RuntimeFinding

_HOMES = {
    "comparison.comparison": ("compare",),
    "evaluation.accuracy": ("evaluate",),
    "bits.plan": ("BitPlan", "BlockBits", "ValueBits"),
    "config": (
        "BitGoal",
        "ClosedFormConfig",
        "DistillConfig",
        "LayerBits",
        "PlacementConfig",
        "QuantizeConfig",
        "ReconstructConfig",
        "from_json",
        "to_json",
    ),
    "effort": ("PRESETS", "Effort", "rounding_rate"),
    "machine.device": ("default_preset",),
    "pipeline.estimation": ("estimate",),
    "evaluation.evaluation": ("Evaluation", "ModelEvaluation"),
    "events": ("Notice", "Step", "cancellable"),
    "framing": ("Framing",),
    "preprocessing": ("RECIPES", "Recipe"),
    "pipeline.distillation": ("distill",),
    "environment": ("Finding", "doctor"),
    "errors": (
        "CancelledError",
        "ConfigError",
        "DataError",
        "GenieError",
        "InputError",
        "ModelError",
        "ParityError",
        "QualityError",
        "RunError",
    ),
    "pipeline.inspection": ("InspectedBlock", "InspectedNode", "InspectedValue", "Inspection", "inspect"),
    "preparation.naming": ("node_operators",),
    "pipeline.quantize": ("Event", "Progress", "quantize"),
    "pipeline.planning": ("ImagePlan", "Plan", "plan"),
    "validate.quality": ("OutputQuality", "Quality"),
    "pipeline.reexport": ("export",),
    "report": ("Report", "versions"),
    "pipeline.reporting": ("html_report",),
    "requirements": ("Requirements",),
    "pipeline.result": ("Result",),
    "run.status": ("RunStatus", "status"),
    "machine.team": ("Team", "first_to_fail", "join_team"),
    "pipeline.time_left": ("Estimate", "TimeLeft"),
    "targets": ("TARGETS", "Constraints", "Form", "Target"),
    "tools": ("TOOLS", "Tool", "advice", "unfit_for_portable"),
    "validate": ("Confusion", "Figure", "PairedDifference"),
    "validate.layerwise": ("Advice", "BlockFinding", "Effect", "Findings", "ValueFinding", "WeightFinding"),
    "validate.runtimes": ("OutputError", "RuntimeFinding"),
    "delivery.verification": ("Verification", "verify"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "PRESETS",
    "RECIPES",
    "TARGETS",
    "TOOLS",
    "Advice",
    "BitGoal",
    "BitPlan",
    "BlockBits",
    "BlockFinding",
    "CancelledError",
    "ClosedFormConfig",
    "ConfigError",
    "Confusion",
    "Constraints",
    "DataError",
    "DistillConfig",
    "Effect",
    "Effort",
    "Estimate",
    "Evaluation",
    "Event",
    "Figure",
    "Finding",
    "Findings",
    "Form",
    "Framing",
    "GenieError",
    "ImagePlan",
    "InputError",
    "InspectedBlock",
    "InspectedNode",
    "InspectedValue",
    "Inspection",
    "LayerBits",
    "ModelError",
    "ModelEvaluation",
    "Notice",
    "OutputError",
    "OutputQuality",
    "PairedDifference",
    "ParityError",
    "PlacementConfig",
    "Plan",
    "Progress",
    "Quality",
    "QualityError",
    "QuantizeConfig",
    "Recipe",
    "ReconstructConfig",
    "Report",
    "Requirements",
    "Result",
    "RunError",
    "RunStatus",
    "RuntimeFinding",
    "Step",
    "Target",
    "Team",
    "TimeLeft",
    "Tool",
    "ValueBits",
    "ValueFinding",
    "Verification",
    "WeightFinding",
    "advice",
    "cancellable",
    "compare",
    "default_preset",
    "distill",
    "doctor",
    "estimate",
    "evaluate",
    "export",
    "first_to_fail",
    "from_json",
    "html_report",
    "inspect",
    "join_team",
    "node_operators",
    "plan",
    "quantize",
    "rounding_rate",
    "status",
    "to_json",
    "unfit_for_portable",
    "verify",
    "versions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'genie_onnx' has no attribute {name!r}")
    return getattr(import_module(f"genie_onnx.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
