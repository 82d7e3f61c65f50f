"""The report of a run, as plain data."""

from genie_onnx.report.report import BlockLoss, Report, finite
from genie_onnx.report.versions import versions

__all__ = ["BlockLoss", "Report", "finite", "versions"]
