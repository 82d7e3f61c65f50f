"""The run directory: what every expensive step made, saved as it is made, so that a killed run goes on from there.

settings.json               model digest, data, every setting: a directory belongs to one run
images/batch_000.npz ...    each distilled batch as soon as it is finished
images.npz, images.png      the calibration images, and a contact sheet of them
codes/0000.safetensors ...  each reconstructed block (codes, scales), with its losses in 0000.json
grids.safetensors           all grids of values, when the last block is done
source.json                 where the model is, and how it was read: for exporting again
report.json                 the final report
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genie_onnx.errors import ConfigError


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_npz(path: Path, **arrays: Any) -> None:
    """Write named arrays to an npz file, whole or not at all."""
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(partial, path)


@dataclass(frozen=True)
class RunDirectory:
    """A directory that belongs to one run. Make one with `open_run`."""

    path: Path

    @property
    def settings(self) -> Path:
        """What makes the run this run."""
        return self.path / "settings.json"

    @property
    def source(self) -> Path:
        """Where the model was, how it was read, and the settings whole."""
        return self.path / "source.json"

    @property
    def grids(self) -> Path:
        """The grids of all values of the finished run."""
        return self.path / "grids.safetensors"

    @property
    def images(self) -> Path:
        """The calibration images of the run."""
        return self.path / "images.npz"

    @property
    def contact_sheet(self) -> Path:
        """A picture of the calibration images."""
        return self.path / "images.png"

    @property
    def report(self) -> Path:
        """The report of the finished run."""
        return self.path / "report.json"

    def image_batch(self, index: int) -> Path:
        """Return where distilled batch `index` is saved."""
        return self.path / "images" / f"batch_{index:03d}.npz"

    def block(self, index: int) -> Path:
        """Return where the codes of learnable block `index` are saved."""
        return self.path / "codes" / f"{index:04d}.safetensors"


def open_run(path: Path, identity: dict[str, Any]) -> RunDirectory:
    """Create the run directory, or continue it where it holds an unfinished run with the same `identity`.

    Raises ConfigError where `path` is no directory, holds something else, or belongs to a run with other settings, naming
    the first difference.
    """
    settings = path / "settings.json"
    if path.exists() and not path.is_dir():
        raise ConfigError(f"the run directory {str(path)!r} is a file: choose another with --run-dir")
    if settings.exists():
        try:
            found = json.loads(settings.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{str(settings)!r} is damaged ({error}): delete that run directory or choose another") from error
        difference = _first_difference(found, json.loads(json.dumps(identity)), "")
        if difference:
            raise ConfigError(
                f"the run directory {str(path)!r} belongs to another run ({difference}): "
                "choose another with --run-dir, or delete it"
            )
    elif path.is_dir() and any(path.iterdir()):
        raise ConfigError(f"{str(path)!r} is not empty and not a run directory: choose another with --run-dir")
    try:
        for folder in (path, path / "images", path / "codes"):
            folder.mkdir(parents=True, exist_ok=True)
        write_text(settings, json.dumps(identity, indent=2))
    except OSError as error:
        raise ConfigError(f"cannot write to the run directory {str(path)!r}: {error.strerror}") from error
    return RunDirectory(path)


def _first_difference(old: Any, new: Any, where: str) -> str | None:
    """Return a phrase naming the first entry in which two JSON values differ, or None."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            difference = _first_difference(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
            if difference:
                return difference
        return None
    return None if old == new else f"{where} was {json.dumps(old)} and is now {json.dumps(new)}"
