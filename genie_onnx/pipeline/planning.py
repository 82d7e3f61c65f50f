"""What a run is about to do, known before it starts: everything it will need is checked, nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genie_onnx import exporter, reconstruct
from genie_onnx.bits.budget import require_goal
from genie_onnx.config import QuantizeConfig
from genie_onnx.data import PathLike, listed
from genie_onnx.delivery.deliver import aside, beside, require_reachable
from genie_onnx.delivery.tflite_file import qdq_output, require_own, require_tflite
from genie_onnx.errors import ConfigError
from genie_onnx.images.choice import Choice, choose_images, with_images_that_pay
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.team import ALONE, Team
from genie_onnx.pipeline.identity import planned_identity
from genie_onnx.pipeline.request import Request
from genie_onnx.placement import REDUCED
from genie_onnx.preparation.prepare import Prepared, Source, output_path
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
    return planned(
        Request(
            model=model,
            config=config or QuantizeConfig(),
            output=output,
            data=tuple(listed(data)),
            input_size=input_size,
            run_dir=run_dir,
            bn_from=bn_from,
            set_inputs=set_inputs or {},
            memory_budget=memory_budget,
            requirements=requirements or Requirements(),
            team=team,
        )
    )


def planned(request: Request) -> Plan:
    """Check everything that the run will need, and return what it will do. Raises InputError with everything that is wrong."""
    config = request.config
    path = output_path(request.model, qdq_output(request.output, config.target))
    output_path(request.model, aside(path))  # where it goes if it is useless
    compute = request.compute()
    prepared = request.prepared()
    if config.closed_form is not None:
        prepared = prepared.with_own_biases()
    choice = choose_images(prepared, config, request.data)
    config = with_images_that_pay(config, choice, prepared.shape)
    require_goal(prepared, config)
    require_reachable(prepared, request.requirements)
    exporter.require_form(prepared.deploy, prepared.placement, config.target)
    require_tflite(prepared, config.target)
    if config.target.form.style == "tflite":
        require_own(path, request.output)
    folder = Path(request.run_dir) if request.run_dir is not None else beside(path, "genie")
    if folder.absolute() in (path.absolute(), path.absolute().parent):
        raise ConfigError(f"the run directory {str(folder)!r} is where the output goes: choose another with --run-dir")
    refuse_another(RunDirectory(folder), planned_identity(prepared, config), request.source())
    return Plan(prepared, config, choice, folder, compute, path)


def _saturation(prepared: Prepared, target: Target) -> tuple[str, ...]:
    wide = sum(spec.bits > REDUCED for spec in prepared.placement.weights)
    if not wide or not target.in_onnxruntime:
        return ()
    here = " This CPU is one of them, so verification sets that option." if has_vnni() is False else ""
    return (
        f"{wide} weights have 8 bits: in onnxruntime on x86 CPUs without VNNI, products with them saturate unless the session "
        f"option session.x64quantprecision is 1; --reduce-range makes it 7 bits, which never do.{here}",
    )
