"""The whole of genie-onnx on one screen: a float ONNX file in, a quantised one and a report out.

file -> prepared graph -> images -> reconstruct, block by block -> codes -> QDQ file -> report
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnx
import torch

from genie_onnx import exporter, reconstruct
from genie_onnx.atomic import write_text
from genie_onnx.bn_file import with_bn_from
from genie_onnx.calibration import Calibration, calibration_images, data_images
from genie_onnx.choice import Choice, choose_images
from genie_onnx.config import QuantizeConfig, to_json
from genie_onnx.data import PathLike
from genie_onnx.delivery import beside, deliver, report_path, write
from genie_onnx.device import choose_device
from genie_onnx.distill import DistillProgress
from genie_onnx.errors import ConfigError
from genie_onnx.events import Notice
from genie_onnx.memory import memory_errors
from genie_onnx.placement import REDUCED
from genie_onnx.prepare import Prepared, Source, check_import, output_path, prepare
from genie_onnx.reconstruct import BlockResult, Codes
from genie_onnx.report import BlockLoss, Report, versions
from genie_onnx.rundir import RunDirectory, open_run
from genie_onnx.saved_blocks import load_blocks, load_grids, save_block
from genie_onnx.seeds import stream
from genie_onnx.targets import Target
from genie_onnx.validate.saturation import has_vnni

Event: TypeAlias = DistillProgress | reconstruct.Progress | Notice | str  # a str names the stage that begins
Progress = Callable[[Event], None]


@dataclass(frozen=True)
class Result:
    """A finished run: the file, its report (also beside it as JSON), and the directory with images and codes."""

    output: Path
    report: Report
    run_dir: Path

    @property
    def report_file(self) -> Path:
        """The report beside the output."""
        return report_path(self.output)


@dataclass(frozen=True)
class Plan:
    """What a run is about to do, known before it starts."""

    prepared: Prepared
    choice: Choice
    target: Target
    output: Path
    run_dir: Path
    device: torch.device

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know."""
        return (*self.prepared.notices, *self.choice.notices, *_saturation(self.prepared, self.target))

    @property
    def learned_blocks(self) -> int:
        """How many blocks have a weight to learn."""
        return len(reconstruct.learned_blocks(self.prepared.blocks, self.prepared.placement))


def plan(
    model: Source,
    output: PathLike | None = None,
    *,
    config: QuantizeConfig | None = None,
    data: Sequence[PathLike] = (),
    input_size: tuple[int, int] | None = None,
    run_dir: PathLike | None = None,
    bn_from: PathLike | None = None,
    set_inputs: Mapping[str, Sequence[float]] | None = None,
) -> Plan:
    """Check everything a run will need and say what it will do; writes nothing. Raises InputError with what is wrong."""
    config = config or QuantizeConfig()
    path = output_path(model, output)
    device = choose_device(config.device)
    prepared = with_bn_from(prepare(model, config.placement, input_size, set_inputs, config.target.constraints), bn_from)
    choice = choose_images(prepared, config, data)
    exporter.require_form(prepared.deploy, prepared.placement, config.target)
    folder = Path(run_dir) if run_dir is not None else beside(path, "genie")
    if folder.absolute() in (path.absolute(), path.absolute().parent):
        raise ConfigError(f"the run directory {str(folder)!r} is where the output goes: choose another with --run-dir")
    return Plan(prepared, choice, config.target, path, folder, device)


def _saturation(prepared: Prepared, target: Target) -> tuple[str, ...]:
    wide = sum(spec.bits > REDUCED for spec in prepared.placement.weights)
    if not wide or not target.in_onnxruntime:
        return ()
    here = " This CPU is one of them, so verification sets that option." if has_vnni() is False else ""
    return (
        f"{wide} weights have 8 bits: in onnxruntime on x86 CPUs without VNNI, products with them saturate unless the session "
        f"option session.x64quantprecision is 1; --reduce-range makes it 7 bits, which never do.{here}",
    )


@memory_errors()
def quantize(
    model: Source,
    output: PathLike | None = None,
    *,
    config: QuantizeConfig | None = None,
    data: Sequence[PathLike] = (),
    input_size: tuple[int, int] | None = None,
    run_dir: PathLike | None = None,
    bn_from: PathLike | None = None,
    set_inputs: Mapping[str, Sequence[float]] | None = None,
    command: str | None = None,
    progress: Progress = lambda event: None,
) -> Result:
    """Quantize a float ONNX model and verify the file that results.

    Args:
        model: path of the float model, or the model itself.
        output: where the quantised model goes; None: MODEL.quant.onnx beside the input. Never the input.
        config: every setting; the defaults are the paper's.
        data: image folders, npz and npy files to calibrate on; none: images are made (`config.images`).
        input_size: (H, W), where the model leaves them open.
        run_dir: keeps images and finished blocks; None: OUTPUT.genie. A run killed half-way goes on from there.
        bn_from: an ONNX with BatchNorm kept, a torch state_dict or safetensors of the same network, to distil from where the
            model's own BatchNorm is folded; refused where its weights are not those of the model.
        set_inputs: numbers for inputs beside the image, which the quantised model then does not have (graph.fix_inputs).
        command: how to start this run again, for `status` to say.
        progress: told about every stage, and about twice a second in between.

    Raises InputError for what cannot be used, before any long work; RunError (ParityError) where the run fails.
    """
    config = config or QuantizeConfig()
    started = time.monotonic()
    todo = plan(
        model, output, config=config, data=data, input_size=input_size, run_dir=run_dir, bn_from=bn_from, set_inputs=set_inputs
    )
    prepared = todo.prepared
    given = data_images(prepared, config, data) if data else None
    progress("checking the import against onnxruntime")
    check_import(prepared, stream(config.seed, "check"))
    notices = list(todo.notices)

    def tell(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.text)
        progress(event)

    source = {
        **run_source(model, config, input_size, set_inputs, command),
        "output": str(todo.output.absolute()),
        "blocks": reconstruct.learned_blocks(prepared.blocks, prepared.placement),
    }
    with open_run(todo.run_dir, run_identity(prepared, config, given), source, machine(todo.device), tell) as run:
        progress("calibration images")
        calibration = calibration_images(prepared, config, todo.choice, given, run, todo.device, tell)
        del given  # the same images once more

        progress("reconstruction")
        codes, losses = _reconstruct(prepared, config, calibration, run, todo.device, tell)

        progress("export and verification")
        metadata = {"version": versions()["genie-onnx"], "images": todo.choice.images, "settings": to_json(config)}
        delivery = deliver(prepared, codes, config.target, calibration.held_back, calibration.held_back_kind, metadata)
        verdict = delivery.verdict
        report = Report(
            settings=dataclasses.asdict(config),
            images=todo.choice.images,
            images_reason=todo.choice.reason,
            notices=tuple(notices),
            samples=len(calibration.images),
            device=str(todo.device),
            blocks=tuple(losses),
            sizes=delivery.sizes.to_json(),
            weights={spec.value: spec.bits for spec in prepared.placement.weights},
            activations={spec.name: spec.bits for spec in prepared.placement.activations},
            kept_float=dict(prepared.placement.float_nodes),
            parity=verdict.parity.to_json(),
            comparison=verdict.comparison.to_json(),
            held_back=verdict.held_back_kind,
            seconds=time.monotonic() - started,
        )
        write(delivery, todo.output, [] if isinstance(model, onnx.ModelProto) else [Path(model)])
        write_text(report_path(todo.output), report.to_json())
        write_text(run.report, report.to_json())  # last: the run is finished
        return Result(todo.output, report, run.path)


def _reconstruct(
    prepared: Prepared,
    config: QuantizeConfig,
    calibration: Calibration,
    run: RunDirectory,
    device: torch.device,
    progress: Progress,
) -> tuple[Codes, list[BlockLoss]]:
    """Reconstruct every block that an earlier run into the same directory has not finished, saving each as it is done."""
    names = reconstruct.learned_blocks(prepared.blocks, prepared.placement)
    blocks = load_blocks(run, names, progress)
    codes = functools.reduce(Codes.merged, (block.codes for block in blocks.values()), Codes())
    grids = load_grids(run, [spec.name for spec in prepared.placement.activations], progress)
    if grids is None or len(blocks) < len(names):
        run.grids.unlink(missing_ok=True)  # of blocks that are made again

        def save(result: BlockResult) -> None:
            index = names.index(result.block)
            blocks[index] = save_block(run, index, result)

        grids = reconstruct.reconstruct(
            prepared.network,
            prepared.placement,
            prepared.blocks,
            calibration.images,
            config.reconstruct,
            input_range=calibration.input_range,
            headroom=calibration.headroom,
            seed=config.seed,
            device=device,
            progress=progress,
            finished=save,
            done=codes,
            constraints=config.target.constraints,
        )
        reconstruct.save(Codes(activations=grids.activations), run.grids)
    return codes.merged(grids), [blocks[index].loss for index in range(len(names))]


def run_source(
    model: Source,
    config: QuantizeConfig,
    input_size: tuple[int, int] | None,
    set_inputs: Mapping[str, Sequence[float]] | None,
    command: str | None,
) -> dict[str, Any]:
    """Return what tells how a run is started: for going on with it, and for exporting it again."""
    return {
        "model": None if isinstance(model, onnx.ModelProto) else str(Path(model).absolute()),
        "input_size": input_size,
        "set_inputs": {name: list(numbers) for name, numbers in (set_inputs or {}).items()},
        "config": dataclasses.asdict(config),
        "command": command,
        "folder": str(Path.cwd()),
        "process": os.getpid(),
        "host": platform.node(),
    }


def machine(device: torch.device) -> dict[str, str]:
    """Return what numbers may depend on in their last bits: versions, the device, the number of threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {**versions(), "device": f"{device.type} {name}", "threads": str(torch.get_num_threads())}


def run_identity(prepared: Prepared, config: QuantizeConfig, given: Calibration | None) -> dict[str, Any]:
    """Return what makes a run this run: the model, every setting, the data, statistics from another file."""
    digest = None if given is None else hashlib.sha256(given.images.numpy().tobytes()).hexdigest()
    settings = dataclasses.asdict(config)
    # Codes are the same in whatever form they are written: exporting again takes seconds.
    settings["target"] = settings["target"]["constraints"]
    identity: dict[str, Any] = {"model": prepared.digest, "data": digest, "shape": list(prepared.shape), "settings": settings}
    if prepared.borrowed:
        arrays = [array.tobytes() for b in prepared.borrowed for array in (b.mean, b.std)]
        identity["statistics"] = hashlib.sha256(b"".join(arrays)).hexdigest()
    return identity
