"""The run directory: what every expensive step made, saved as it is made, so that a killed run goes on from there.

settings.json               model digest, data, every setting: a directory belongs to one run; versions that worked in it
source.json                 how the run was last started: model, output, command; and what it has to do
lock                        held by the process that works here
forms.json                  what each convolution is computed in, and the machine that this is for
images/batches.json         how many images each distilled batch has
images/batch_000.npz ...    each distilled batch as soon as it is finished
images.npz, images.png      the calibration images, and a contact sheet of them
own_grids.json              the selections that have a grid of their own
equalisation.json           the factors of equalised channels
bits.json, bits.toml        the bits that were chosen for a goal, and the same for --layers
codes/0000.safetensors ...  each reconstructed block (codes, scales)
codes/0000.json             ... its losses and the digest of that file; written last, it says that the block is finished
grids.safetensors           all grids of values, when the last block is done
last_pass.safetensors       all codes, scales and biases behind a last pass that was kept
last_pass.json              what it gained, and the digest of that file; written last, it says that the pass is finished
values/, values1/ ...       what is carried from block to block and does not fit into memory, of each process of a team; deleted
                            at the end of every run
history.jsonl               the losses that were told, a line each
report.json                 the final report: the run is finished
blocks.json                 the blocks and the values between them
comparison.json             the finished model and the float one, layer by layer
report.html                 all that to look at
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from genie_onnx.errors import ConfigError, RunError
from genie_onnx.events import Notice
from genie_onnx.machine.atomic import write_text
from genie_onnx.report import BlockLoss
from genie_onnx.run.differences import differences
from genie_onnx.spellings import up_to_date

LOCK_SECONDS = 1.0  # to wait for the lock: `is_working` holds it for an instant


@dataclass(frozen=True)
class RunDirectory:
    """A directory that belongs to one run. Make one with `open_run`."""

    path: Path

    @property
    def settings(self) -> Path:
        """What makes the run this run, and the versions that worked in it."""
        return self.path / "settings.json"

    @property
    def source(self) -> Path:
        """How the run was last started, and what it has to do."""
        return self.path / "source.json"

    @property
    def lock(self) -> Path:
        """Held by the process that works in the directory; the file itself stays."""
        return self.path / "lock"

    @property
    def forms(self) -> Path:
        """What each convolution of the run is computed in on its machine."""
        return self.path / "forms.json"

    @property
    def grids(self) -> Path:
        """The grids of all values of the finished run."""
        return self.path / "grids.safetensors"

    @property
    def last_pass(self) -> Path:
        """All codes behind the last pass; none where it was not kept."""
        return self.path / "last_pass.safetensors"

    @property
    def last_errors(self) -> Path:
        """What the last pass gained, with the digest of its codes: it is finished."""
        return self.last_pass.with_suffix(".json")

    @property
    def images(self) -> Path:
        """The calibration images of the run."""
        return self.path / "images.npz"

    @property
    def contact_sheet(self) -> Path:
        """A picture of the calibration images."""
        return self.path / "images.png"

    @property
    def own_grids(self) -> Path:
        """The selections that have a grid of their own, as grids.own.OwnGrids has them."""
        return self.path / "own_grids.json"

    @property
    def equalisation(self) -> Path:
        """The factors of equalised channels, as equalisation.Equalisation has them."""
        return self.path / "equalisation.json"

    @property
    def bits(self) -> Path:
        """The bits of each block that were chosen for a goal, as bits.plan.BitPlan has them."""
        return self.path / "bits.json"

    @property
    def layers(self) -> Path:
        """The same as options about single layers, for `--layers`."""
        return self.path / "bits.toml"

    @property
    def report(self) -> Path:
        """The report of the finished run."""
        return self.path / "report.json"

    @property
    def blocks(self) -> Path:
        """The blocks of the network and the values between them, for the report to draw."""
        return self.path / "blocks.json"

    @property
    def comparison(self) -> Path:
        """How the finished model compares with the float one, layer by layer."""
        return self.path / "comparison.json"

    @property
    def page(self) -> Path:
        """The report to be read in a browser."""
        return self.path / "report.html"

    @property
    def history(self) -> Path:
        """The losses that the run told of, one a line."""
        return self.path / "history.jsonl"

    @property
    def values(self) -> Path:
        """A folder for values that do not fit into memory, while a run is going."""
        return self.path / "values"

    def values_of(self, rank: int) -> Path:
        """Return the folder `values` of process `rank` of a team."""
        return self.values if rank == 0 else self.values.with_name(f"{self.values.name}{rank}")

    @property
    def batches(self) -> Path:
        """A list of the sizes of the batches that are distilled."""
        return self.path / "images" / "batches.json"

    def image_batch(self, index: int) -> Path:
        """Return where distilled batch `index` is saved."""
        return self.path / "images" / f"batch_{index:03d}.npz"

    def block(self, index: int) -> Path:
        """Return where the codes of learnable block `index` are saved."""
        return self.path / "codes" / f"{index:04d}.safetensors"

    def loss(self, index: int) -> Path:
        """Return where the losses of learnable block `index` are saved, with the digest of its codes."""
        return self.block(index).with_suffix(".json")

    def is_working(self) -> bool | None:
        """Return whether a process works in the directory; None where this may not be found out. Writes nothing."""
        if not self.lock.exists():
            return False
        try:
            with FileLock(self.lock, blocking=False):
                return False
        except Timeout:
            return True
        except OSError:
            return None


@contextmanager
def open_run(
    path: Path,
    identity: Mapping[str, Any],
    source: Mapping[str, Any],
    machine: Mapping[str, str],
    notice: Callable[[Notice], None],
) -> Iterator[RunDirectory]:
    """Create the run directory, or continue it where it holds a run with the same `identity`; nobody else may meanwhile.

    identity: what decides the run's numbers (JSON values). source: `RunDirectory.source`; its "model" names the file.
    machine: versions, device and the like, in which numbers may differ in their last bits: a change gives a notice.

    Raises ConfigError where `path` is no directory, holds something else, belongs to a run with other settings (every
    difference is named), or is in use by another process.
    """
    run = RunDirectory(path)
    if path.exists() and not path.is_dir():
        raise ConfigError(f"the run directory {str(path)!r} is a file: choose another with --run-dir")
    ours = {run.lock.name, run.settings.name, f"{run.settings.name}.part"}  # what a process killed at its start leaves
    if path.is_dir() and not run.settings.exists() and {entry.name for entry in path.iterdir()} - ours:
        raise ConfigError(f"{str(path)!r} is not empty and not a run directory: choose another with --run-dir")
    lock = FileLock(run.lock, timeout=LOCK_SECONDS)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ConfigError(
            f"another process is working in the run directory {str(path)!r}: wait for it (genie-onnx status), or choose another "
            "with --run-dir"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot write to the run directory {str(path)!r}: {error.strerror}") from error
    try:
        _claim(run, identity, source, machine, notice)
        yield run
    finally:
        lock.release()


def _claim(
    run: RunDirectory,
    identity: Mapping[str, Any],
    source: Mapping[str, Any],
    machine: Mapping[str, str],
    notice: Callable[[Notice], None],
) -> None:
    """Compare what `run` says of itself with what is wanted, and write down what is new."""
    machines: list[dict[str, str]] = []
    if run.settings.exists():
        found, machines = read_settings(run)
        changed = _changes(machines, machine)
        _require_same(run, found, identity, source, changed)
        if changed:
            notice(
                Notice(
                    f"Part of this run was computed with {changed}: its numbers may differ in their last bits from those of a "
                    "run that was never interrupted."
                )
            )
    try:
        if machine not in machines:  # first of all: it says whose everything else is
            write_text(run.settings, json.dumps({"identity": identity, "machines": [*machines, machine]}, indent=2))
        write_source(run, source)
        for folder in (run.batches.parent, run.block(0).parent):
            folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to the run directory {str(run.path)!r}: {error.strerror}") from error


def write_source(run: RunDirectory, source: Mapping[str, Any]) -> None:
    """Write down how the run was started (`RunDirectory.source`). Raises OSError."""
    write_text(run.source, json.dumps(source, indent=2))


def refuse_another(run: RunDirectory, identity: Mapping[str, Any], source: Mapping[str, Any]) -> None:
    """Raise ConfigError where `run` belongs to a run with other settings, as far as they are known before the data are read."""
    if run.settings.exists():
        found, _ = read_settings(run)
        _require_same(run, {**found, "data": identity["data"]}, identity, source, "")


def _require_same(
    run: RunDirectory, found: Mapping[str, Any], identity: Mapping[str, Any], source: Mapping[str, Any], changed: str
) -> None:
    """Raise ConfigError with every difference between what `run` says of itself, `found`, and what is wanted."""
    if different := differences(found, json.loads(json.dumps(identity)), _model_file(read_source(run)), _model_file(source)):
        raise ConfigError(
            f"the run directory {str(run.path)!r} belongs to another run: {', '.join(different)}"
            + (f" ({changed})" if changed else "")
            + ". Choose another with --run-dir, or delete it"
        )


def read_settings(run: RunDirectory) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return the run's identity and what machines worked on it. Raises ConfigError where the file is damaged."""
    try:
        found = json.loads(run.settings.read_text(encoding="utf-8"))
        identity = dict(found["identity"])
        return {**identity, "settings": up_to_date(identity["settings"])}, [dict(machine) for machine in found["machines"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{str(run.settings)!r} is damaged ({error!r}), so nobody knows whose run it is: delete that run directory or choose "
            "another with --run-dir"
        ) from error


def read_source(run: RunDirectory) -> dict[str, Any]:
    """Return how the run was last started; nothing where that is not known any more."""
    try:
        return dict(json.loads(run.source.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def finished_block(run: RunDirectory, index: int) -> BlockLoss | None:
    """Return the losses of learnable block `index`, None where it is not finished.

    Raises RunError where the file with its codes is not the one that was written, or that with its losses is not whole.
    """
    try:
        entry = json.loads(run.loss(index).read_text(encoding="utf-8"))
        digest = hashlib.sha256(run.block(index).read_bytes()).hexdigest()
        if digest == entry["sha256"]:
            return BlockLoss(str(entry["block"]), float(entry["before"]), float(entry["after"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not run.loss(index).exists():
            return None
        raise RunError(f"{run.loss(index)} or {run.block(index).name} is damaged: {error!r}") from error
    raise RunError(f"{run.block(index)} is damaged: it is not what was written there")


def _model_file(source: Mapping[str, Any]) -> str:
    model = source.get("model")
    return "a model" if model is None else Path(model).name


def _changes(machines: Sequence[Mapping[str, str]], machine: Mapping[str, str]) -> str:
    """Return what was different before: "torch 2.12.0 (now 2.13.0), threads 8 (now 2)"."""
    before = {(name, old) for earlier in machines for name, old in earlier.items() if machine.get(name, old) != old}
    return ", ".join(f"{name} {old} (now {machine[name]})" for name, old in sorted(before))
