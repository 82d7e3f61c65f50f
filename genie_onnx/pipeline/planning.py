"""What a run is about to do, known before it starts: everything it will need is checked, nothing is written."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie_onnx import exporter, reconstruct
from genie_onnx.bits.budget import require_goal
from genie_onnx.config import QuantizeConfig
from genie_onnx.data import PathLike, listed
from genie_onnx.delivery.deliver import aside, beside, require_reachable
from genie_onnx.errors import ConfigError
from genie_onnx.images.choice import Choice, choose_images, with_images_that_pay
from genie_onnx.machine.compute import Compute, choose_compute
from genie_onnx.machine.team import ALONE, Team
from genie_onnx.placement import REDUCED
from genie_onnx.preparation.bn_file import with_bn_from
from genie_onnx.preparation.prepare import Prepared, Source, output_path, prepare
from genie_onnx.requirements import Requirements
from genie_onnx.run.directory import RunDirectory, refuse_another
from genie_onnx.targets import Target
from genie_onnx.validate.saturation import has_vnni


@dataclass(frozen=True)
class ImagePlan:
    """Which calibration images there will be: all that `distill` does."""

    prepared: Prepared
    config: QuantizeConfig
    choice: Choice
    run_dir: Path
    compute: Compute

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know."""
        return (*self.prepared.notices, *self.choice.notices)


@dataclass(frozen=True)
class Plan(ImagePlan):
    """All that `quantize` does."""

    output: Path

    @property
    def target(self) -> Target:
        """What the file is for."""
        return self.config.target

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know."""
        return (*super().notices, *_saturation(self.prepared, self.target))

    @property
    def learned_blocks(self) -> int:
        """How many blocks have a weight to learn."""
        return len(reconstruct.learned_blocks(self.prepared.blocks, self.prepared.placement))


def plan(
    model: Source,
    output: PathLike | None = None,
    *,
    config: QuantizeConfig | None = None,
    data: PathLike | Sequence[PathLike] = (),
    input_size: tuple[int, int] | None = None,
    run_dir: PathLike | None = None,
    bn_from: PathLike | None = None,
    set_inputs: Mapping[str, Sequence[float]] | None = None,
    memory_budget: str | None = None,
    requirements: Requirements | None = None,
    team: Team = ALONE,
) -> Plan:
    """Check everything that a run of `quantize` with these arguments will need, and say what it will do; writes nothing.

    Raises InputError with everything that is wrong.

    >>> import genie_onnx
    >>> todo = genie_onnx.plan("digits.onnx", "other.onnx")
    >>> todo.run_dir.name, todo.choice.images, todo.learned_blocks
    ('other.genie', 'distilled', 5)
    >>> genie_onnx.estimate(todo).seconds > 0
    True
    """
    config = config or QuantizeConfig()
    path = output_path(model, output)
    output_path(model, aside(path))  # where it goes if it is useless
    compute = choose_compute(config, memory_budget, team)
    prepared = with_bn_from(
        prepare(model, config.placement, input_size, set_inputs, config.target.constraints, config.layout), bn_from
    )
    if config.closed_form is not None:
        prepared = prepared.with_own_biases()
    choice = choose_images(prepared, config, listed(data))
    config = with_images_that_pay(config, choice, prepared.shape)
    require_goal(prepared, config)
    require_reachable(prepared, requirements or Requirements())
    exporter.require_form(prepared.deploy, prepared.placement, config.target)
    folder = Path(run_dir) if run_dir is not None else beside(path, "genie")
    if folder.absolute() in (path.absolute(), path.absolute().parent):
        raise ConfigError(f"the run directory {str(folder)!r} is where the output goes: choose another with --run-dir")
    source = {"model": str(model) if isinstance(model, str | os.PathLike) else None}
    refuse_another(RunDirectory(folder), planned_identity(prepared, config), source)
    return Plan(prepared, config, choice, folder, compute, path)


def planned_identity(prepared: Prepared, config: QuantizeConfig) -> dict[str, Any]:
    """Return what makes a run this run: the model, every setting, statistics from another file. The "data" are not read yet."""
    settings = dataclasses.asdict(config)
    # Codes are the same in whatever form they are written: exporting again takes seconds.
    settings["target"] = settings["target"]["constraints"]
    del settings["cuda_graph"], settings["layout"]
    identity: dict[str, Any] = {"model": prepared.digest, "data": None, "shape": list(prepared.shape), "settings": settings}
    if prepared.layout != "nchw":
        identity["layout"] = prepared.layout
    if prepared.borrowed:
        arrays = [array.tobytes() for b in prepared.borrowed for array in (b.mean, b.std)]
        identity["statistics"] = hashlib.sha256(b"".join(arrays)).hexdigest()
    return identity


def _saturation(prepared: Prepared, target: Target) -> tuple[str, ...]:
    wide = sum(spec.bits > REDUCED for spec in prepared.placement.weights)
    if not wide or not target.in_onnxruntime:
        return ()
    here = " This CPU is one of them, so verification sets that option." if has_vnni() is False else ""
    return (
        f"{wide} weights have 8 bits: in onnxruntime on x86 CPUs without VNNI, products with them saturate unless the session "
        f"option session.x64quantprecision is 1; --reduce-range makes it 7 bits, which never do.{here}",
    )
