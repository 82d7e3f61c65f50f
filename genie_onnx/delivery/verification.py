"""Does a file compute what it says, in the runtimes that are to run it?

file          -> its scales and codes against those that were written (integrity)
file, samples -> node by node as written (the reference, which every `quantize` run proves to be what was simulated)
              -> in each runtime, in a process of its own -> error, agreement, integer layers, time against the float model
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from genie_onnx import graph
from genie_onnx.data import PathLike
from genie_onnx.delivery.integrity import Integrity, integrity
from genie_onnx.delivery.tflite_file import ENDING, onnx_path, tflite_path
from genie_onnx.errors import ConfigError, RunError
from genie_onnx.events import Step, Tally
from genie_onnx.framing import Framing, LayoutChoice
from genie_onnx.images.trial_images import taking, trial_images
from genie_onnx.preprocessing import Order, Preprocessing
from genie_onnx.spellings import renamed_arguments
from genie_onnx.validate import KernelCounts, Session, integer_kernels, weighted_layers
from genie_onnx.validate.runtimes import LIMIT, RUNTIMES, Answer, Runtime, RuntimeFinding, ask, doubt, is_installed, judge
from genie_onnx.validate.saturation import has_vnni, wide_weights
from genie_onnx.validate.session import Array

SATURATES = (
    "{count} weights have more than 7 bits, and this CPU has no VNNI: onnxruntime's integer kernels saturate with them here. "
    "Quantize with --reduce-range, or set the session's option session.x64quantprecision to 1"
)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `verify` found. `limit` is that of the mean error as a share of an output's range."""

    model: Path
    samples: int
    images: str  # data or procedural
    limit: float
    bytes: int  # of the file
    float_bytes: int | None
    layers: int | None  # with weights, as the file says; None where it does not ...
    float_layers: dict[str, str]  # ... those of them that onnxruntime computes in float -> why
    notices: tuple[str, ...]
    runtimes: tuple[RuntimeFinding, ...]
    changes: tuple[str, ...] = ()  # what of scales and codes is not as it was written: a node and a value each

    @property
    def ok(self) -> bool:
        """Whether every runtime computes what the file says, and the file is the one that was written."""
        return not self.changes and all(finding.problem is None for finding in self.runtimes)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        rows = [finding.to_json() for finding in self.runtimes]
        return {**asdict(self), "ok": self.ok, "model": str(self.model), "runtimes": rows}


@renamed_arguments(order="channel_order")
def verify(
    model: PathLike,
    *,
    float_model: PathLike | None = None,
    runtimes: Sequence[str] | None = None,
    pythons: Mapping[str, str] | None = None,
    data: PathLike | Sequence[PathLike] = (),
    samples: int = 16,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channel_order: Order = "rgb",
    framing: Framing | None = None,
    input_size: tuple[int, int] | None = None,
    layout: LayoutChoice = "auto",
    seed: int = 0,
    seconds: float = 600,
    progress: Callable[[Step], None] = lambda step: None,
) -> Verification:
    """Run the file `model` in other runtimes and hold what they compute against the file, computed node by node.

    Args:
        model: a quantised ONNX file with one input, [N, C, H, W] or [N, H, W, C]; or the .tflite file beside one.
        float_model: the model it was made from; each runtime's time for it is the one to compare with.
        runtimes: names from `RUNTIMES`; None: all that are installed.
        pythons: interpreters by name of the runtime, for those that are installed in an environment of their own.
        data: images, as for `quantize`; without them procedural ones are made from `seed`.
        samples: how many images.
        mean, std, channel_order: of the model's preprocessing, as in QuantizeConfig.
        framing: how pictures get the model's size; None: scaled to cover it, cut at the centre.
        input_size: (H, W), where the model leaves them open.
        layout: of the input; auto: what the graph tells.
        seconds: after which a runtime is stopped.
        progress: is told of the reference and of each runtime, twice a second (events).

    Raises ModelError, ConfigError and DataError for what cannot be used, a runtime that is not installed included, RunError where
    onnxruntime cannot load the file at all. What a runtime cannot do is a finding, not an error.

    >>> import genie_onnx
    >>> found = genie_onnx.verify("digits.quant.onnx", float_model="digits.onnx", runtimes=["onnxruntime"])
    >>> found.ok, found.runtimes[0].worst.mean_share < found.limit
    (True, True)
    """
    path = Path(model)
    if path.name.endswith(ENDING):
        path = onnx_path(path)
    tflite = tflite_path(path)
    chosen = _choose(runtimes, pythons or {}, tflite)
    loaded = graph.load(path)
    takes = taking(loaded, path, input_size, layout)
    batch = takes.batch
    name = str(loaded.graph.inputs[0].name)
    preprocessing = Preprocessing.of(mean, std, channel_order, framing)
    array = trial_images(loaded, takes, data, preprocessing, samples=samples, seed=seed)
    batches = array[: len(array) // batch * batch].reshape(-1, batch, *array.shape[1:])
    if not len(batches):
        raise ConfigError(f"{path} takes {batch} samples at a time, and there are {len(array)}: give more, or --samples {batch}")
    proto = onnx.load(path)
    kept = integrity(path, proto)
    session = _session(path, kept)
    tell = Tally(progress, Step(stage="reference", iterations=len(batches)))
    runs = []
    for done, feed in enumerate(batches, start=1):
        runs.append(session({name: feed}))
        tell(done)
    reference = {output: np.stack([run[output] for run in runs]) for output in session.outputs}
    weighted, kernels = weighted_layers(proto), _kernels(path)
    findings = []
    for index, (row, python) in enumerate(chosen):
        step = Step(stage="runtimes", index=index, count=len(chosen), name=f"{row.name} ({row.takes})" if row.takes else row.name)
        progress(step)
        answer = ask(
            row,
            path if row.reads == "onnx" else tflite,
            {name: batches},
            float_model=None if float_model is None or row.reads != "onnx" else Path(float_model),
            python=python,
            seconds=seconds,
            alive=partial(progress, step),
        )
        codes = _codes(proto, answer, name, batches)
        findings.append(judge(row.name, answer, reference, None if weighted is None else len(weighted), codes))
    wide = wide_weights(proto) if has_vnni() is False else ()
    rounded = any(node.op_type == "QuantizeLinear" for node in proto.graph.node)
    doubts = [doubt(finding, rounded) for finding in findings]
    notices = [*_judged(loaded), *kept.notices, *(SATURATES.format(count=len(wide)) for _ in wide[:1]), *doubts]
    return Verification(
        model=path,
        samples=batches.shape[0] * batch,
        images="data" if data else "procedural",
        limit=LIMIT,
        bytes=path.stat().st_size,
        float_bytes=None if float_model is None else Path(float_model).stat().st_size,
        notices=tuple(notice for notice in notices if notice),
        layers=None if kernels is None else kernels.layers,
        float_layers={} if kernels is None else kernels.float_layers,
        runtimes=tuple(findings),
        changes=kept.changes,
    )


def _session(path: Path, kept: Integrity) -> Session:
    """Return the file as it is written; where it cannot be loaded, what was changed in it is said along with that."""
    try:
        return Session(path, optimise=False)
    except RunError as error:
        if not kept.changes:
            raise
        more = f" (and {len(kept.changes) - 3} more)" if len(kept.changes) > 3 else ""
        changed = "; ".join(kept.changes[:3])
        raise RunError(f"{error}. The file is not as it was written: {changed}{more}. Take it from its run again") from error


def _codes(proto: onnx.ModelProto, answer: Answer, name: str, batches: Array) -> dict[str, Array]:
    """Return what the file has for the codes that a runtime shows, computed node by node."""
    known = {output for node in proto.graph.node for output in node.output}
    shown = [code for code in answer.codes if code in known]
    if not shown:
        return {}
    session = Session(proto, shown, optimise=False)
    runs = [session({name: batch}) for batch in batches[: len(answer.codes[shown[0]])]]
    return {code: np.stack([run[code] for run in runs]) for code in shown}


def _kernels(path: Path) -> KernelCounts | None:
    """Return what onnxruntime runs at default options; None where it refuses the file so, which is a finding of its row."""
    try:
        return integer_kernels(path)
    except RunError:
        return None


def _judged(model: ir.Model) -> list[str]:
    """Say how the file was judged against the float model when it was made, where it says so and that is not well."""
    try:
        found = json.loads(model.metadata_props.get("genie_onnx.quality", "{}"))
        bad = found.get("level") in ("poor", "useless")
    except (ValueError, AttributeError, TypeError):
        return []
    return [f"When it was made, the file was judged against its float model: {found.get('verdict')}"] if bad else []


def _choose(names: Sequence[str] | None, pythons: Mapping[str, str], tflite: Path) -> list[tuple[Runtime, str]]:
    """Return the runtimes to try with the interpreter of each, in the order of the table or as named; those that read the file
    `tflite` only where it is there, or somebody asks for them."""
    unknown = [name for name in dict.fromkeys((*(names or ()), *pythons)) if name not in RUNTIMES]
    if unknown:
        raise ConfigError(f"there is no runtime {', '.join(map(repr, unknown))}: known are {', '.join(RUNTIMES)}")
    demanded = (*names, *pythons) if names else tuple(pythons)
    rows = [(RUNTIMES[name], pythons.get(name, sys.executable)) for name in dict.fromkeys(names or RUNTIMES)]
    if not tflite.is_file():
        lacking = [row.name for row, _ in rows if row.reads == "tflite" and row.name in demanded]
        if lacking:
            raise ConfigError(f"{', '.join(lacking)}: there is no {tflite}, which quantize and export --target litert write")
        rows = [(row, python) for row, python in rows if row.reads == "onnx"]
    there = [(row, python) for row, python in rows if is_installed(row, python)]
    missing = [(row, python) for row, python in rows if row.name in demanded and (row, python) not in there]
    if missing:
        raise ConfigError([f"{row.name} is not installed for {python}: {row.install}" for row, python in missing])
    return there
