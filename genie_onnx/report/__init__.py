"""The report of a run: as plain data, and as one HTML page (page.py, which is not loaded where only the data are wanted)."""

from genie_onnx.report.report import BlockLoss, Report, finite
from genie_onnx.report.versions import versions

__all__ = ["BlockLoss", "Report", "finite", "versions"]
