"""The exceptions of genie-onnx.

    GenieError                    everything this package raises on purpose; catch this one
    ├── InputError                what was handed in cannot be used as it is (the command line exits with 2)
    │   ├── ModelError            the ONNX file: unreadable, or something in it is not supported
    │   ├── DataError             images, labels or their preprocessing
    │   └── ConfigError           an option, or two options that exclude each other
    ├── RunError                  the input was fine, the run failed (the command line exits with 1)
    │   └── ParityError           the written file does not compute what was simulated
    ├── QualityError              the file is useless, or not as good as was asked for (the command line exits with 3)
    └── CancelledError            the caller asked for the end (events.cancellable); what is finished stays

A bug is none of these and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class GenieError(Exception):
    """Base of all errors raised on purpose."""


class InputError(GenieError):
    """Something handed in cannot be used; `problems` has one complete sentence for each finding.

    All findings of one check are collected before it is raised, so a user mends them in one go.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class ModelError(InputError):
    """The ONNX model cannot be read, or uses something that is not supported."""


class DataError(InputError):
    """Calibration or evaluation data cannot be used."""


class ConfigError(InputError):
    """An option has a value out of its range, or excludes another."""


class RunError(GenieError):
    """The run failed although its input was accepted."""


class ParityError(RunError):
    """The exported file and the simulation it was made from compute different numbers."""


class QualityError(GenieError):
    """The run went well, and its file is judged useless or lacks what was required; see `Result.require`."""


class CancelledError(GenieError):
    """The caller asked for the end of the call."""
