"""GENIE-D on its own: images out of a model's BatchNorm statistics, saved for `--data` of this or another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from genie_onnx.config import QuantizeConfig
from genie_onnx.data import PathLike
from genie_onnx.images.calibration import calibration_images
from genie_onnx.images.choice import choose_images, with_images_that_pay
from genie_onnx.machine.memory import memory_errors
from genie_onnx.machine.team import ALONE, Team
from genie_onnx.pipeline.forms import choose_forms
from genie_onnx.pipeline.identity import machine, run_identity
from genie_onnx.pipeline.planning import ImagePlan
from genie_onnx.pipeline.quantize import Progress, silent
from genie_onnx.pipeline.request import Request
from genie_onnx.preparation.prepare import Source
from genie_onnx.run.directory import RunDirectory, open_run


@memory_errors()
def distill(
    model: Source,
    run_dir: PathLike,
    *,
    config: QuantizeConfig | None = None,
    input_size: tuple[int, int] | None = None,
    bn_from: PathLike | None = None,
    set_inputs: Mapping[str, Sequence[float]] | None = None,
    memory_budget: str | None = None,
    command: str | None = None,
    progress: Progress = lambda event: None,
    team: Team = ALONE,
) -> RunDirectory:
    """Make `config.samples` images into `run_dir`: images.npz (float32 [N, C, H, W]) and images.png.

    A run killed half-way goes on from its last finished batch.

    Args:
        model: path of the float model, or the model itself.
        run_dir: the directory for the images.
        config: `samples`, `images`, `distill` and what is said of the input count; None: "distill" with the paper's settings.
        input_size: (H, W), where the model leaves them open.
        bn_from, set_inputs, memory_budget, command, progress, team: as for `quantize`.

    Returns the directory: `.images` is the npz, good for `data=` of this or another model, `.contact_sheet` the png.
    Raises ConfigError where `config.images` is "distill" and there are no BatchNorm statistics; InputError and RunError else as
    `quantize`.

    >>> import genie_onnx, numpy
    >>> from genie_onnx import DistillConfig, QuantizeConfig
    >>> quick = QuantizeConfig(images="distill", samples=8, distill=DistillConfig(iterations=5, start="leaves"))
    >>> made = genie_onnx.distill("digits.onnx", "made", config=quick)
    >>> numpy.load(made.images)["images"].shape
    (8, 1, 16, 16)
    """
    request = Request(
        model=model,
        config=config or QuantizeConfig(images="distill"),
        input_size=input_size,
        run_dir=run_dir,
        bn_from=bn_from,
        set_inputs=set_inputs or {},
        memory_budget=memory_budget,
        command=command,
        team=team,
    )
    return _distilled(request, Path(run_dir), silent if team.rank > 0 else progress)


def _distilled(request: Request, folder: Path, progress: Progress) -> RunDirectory:
    """Do what is asked for, into `folder`."""
    config, compute, prepared = request.config, request.compute(), request.prepared()
    choice = choose_images(prepared, config, ())
    config = with_images_that_pay(config, choice, prepared.shape)
    progress(ImagePlan(prepared, config, choice, folder, compute))
    source = replace(request, config=config).source()
    opened = open_run(folder, run_identity(prepared, config, None), source, machine(compute), progress)
    with opened if request.team.rank == 0 else nullcontext(RunDirectory(folder)) as run:
        prepared = prepared.formed(choose_forms(prepared, config, choice, run, compute, progress))
        calibration_images(prepared, config, choice, None, run, compute, progress)
    return run
