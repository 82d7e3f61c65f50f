"""Driver (worker.py) of Vela, the compiler for Arm's Ethos-U: which operators the NPU gets, and what they take as Vela estimates
it. It runs nothing, so there are no outputs.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path

import numpy as np

ACCELERATOR = "ethos-u55-128"
_COMMAND = "import sys; from ethosu.vela.vela import main; sys.exit(main())"
_COUNTS = re.compile(r"(CPU|NPU) operators = (\d+)")


def version() -> str:
    """Return the version of the compiler."""
    return installed("ethos-u-vela")


class Model:
    """A .tflite file, compiled."""

    def __init__(self, path: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Compile it. Raises RuntimeError with Vela's last line where that fails."""
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", _COMMAND, path, "--output-dir", folder, "--accelerator-config", ACCELERATOR]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            self._counts = {name: int(count) for line in said for name, count in _COUNTS.findall(line)}
            if done.returncode or set(self._counts) != {"CPU", "NPU"}:
                raise RuntimeError(said[-1] if said else f"vela ended with exit code {done.returncode}")
            with next(Path(folder).glob("*summary*.csv")).open(newline="", encoding="utf-8") as file:
                self._summary = next(csv.DictReader(file))
        self._left = [line for line in said if line.startswith(("Warning: ", "Info: ")) and "CPU" in line]

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run nothing."""
        return []

    def operators(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        """It runs nothing: `notes` has what is to be said."""
        return {}

    def notes(self) -> list[str]:
        """Return Vela's summary: operators, cycles, memory."""
        row = self._summary
        on_npu, count = self._counts["NPU"], sum(self._counts.values())
        sram, flash = (
            float(row["sram_memory_used"]),
            float(row["off_chip_flash_memory_used"]) + float(row["on_chip_flash_memory_used"]),
        )
        return [
            f"{on_npu} of {count} operators ({100 * on_npu / max(count, 1):.3g} %) on {row['accelerator_configuration']}, "
            "the others on the CPU",
            f"about {float(row['cycles_total']):,.0f} cycles, {1000 * float(row['inference_time']):.3g} ms at "
            f"{float(row['core_clock']) / 1e6:g} MHz; {sram:.4g} KiB of SRAM, {flash:.4g} KiB of flash",
            *self._left[:3],
        ]
