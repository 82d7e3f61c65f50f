"""What is left of a finished run: the file, the report on it, the verdict, and where everything lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genie_onnx.delivery.deliver import aside, report_path
from genie_onnx.delivery.tflite_file import tflite_path
from genie_onnx.errors import QualityError
from genie_onnx.machine.atomic import write_text
from genie_onnx.report import Report
from genie_onnx.run.directory import RunDirectory
from genie_onnx.validate.quality import Quality


@dataclass(frozen=True)
class Result:
    """A finished run: the file, its report (also beside it as JSON), the verdict, and the directory with images, codes and HTML.

    Where `quality.ok` is False, `output` is not the path that was asked for but OUTPUT.useless.onnx, and `require` raises.
    """

    output: Path
    report: Report
    quality: Quality
    run_dir: Path
    page: Path | None = None  # the HTML report; None: made by `export`, or it could not be made (a notice said why)

    @property
    def report_file(self) -> Path:
        """The report beside the output."""
        return report_path(self.output)

    @property
    def tflite(self) -> Path | None:
        """The .tflite file beside the output, where the target has one."""
        return tflite_path(self.output) if self.report.settings["target"]["form"]["style"] == "tflite" else None

    @property
    def left_aside(self) -> Path | None:
        """Where this file is what was asked for: the one beside it that an earlier run put aside, if it is still there. It is the
        user's to delete: it may be the only file of a long run."""
        path = aside(self.output)
        return path if self.quality.ok and path.is_file() else None

    def require(self) -> None:
        """Raise QualityError where the file is useless, or lacks what was required of it."""
        if not self.quality.ok:
            accepted = "" if self.quality.unmet else ". To have it under its ordinary name all the same: --accept-useless"
            raise QualityError(f"{'; '.join(self.quality.problems)}. It was written to {self.output}{accepted}")


def save_report(report: Report, output: Path, run: RunDirectory) -> None:
    """Write `report` beside the file at `output`, then to `run`, which is finished with it."""
    for place in (report_path(output), run.report):
        write_text(place, report.to_json())
