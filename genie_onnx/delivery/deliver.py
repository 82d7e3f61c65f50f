"""Codes -> a file for a target: exported, judged, its shapes fixed where the target asks for it, written with its encodings.

The last step of `quantize`, and all that exporting a finished run again has to do.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from genie_onnx import exporter, graph
from genie_onnx.delivery.bias_room import with_room_for_biases
from genie_onnx.delivery.judge import CHECKS, Verdict, judge, require_same
from genie_onnx.delivery.narrow import with_narrow_weights
from genie_onnx.delivery.scale_floor import with_floored_scales
from genie_onnx.delivery.tflite_file import tflite_path, to_tflite
from genie_onnx.errors import ConfigError, RunError
from genie_onnx.events import Step, Tally
from genie_onnx.graph import query
from genie_onnx.graph.sizes import Sizes, sizes
from genie_onnx.grids.equalisation import equalisation_of
from genie_onnx.images.kept import Judges
from genie_onnx.machine.atomic import replacing, write_text
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.reconstruct import Codes
from genie_onnx.requirements import Requirements
from genie_onnx.targets import Target
from genie_onnx.validate import broken_rules, require_parity, with_checksums


@dataclass(frozen=True)
class Delivery:
    """A model ready to be written, and what is to be said of it."""

    proto: onnx.ModelProto
    verdict: Verdict
    sizes: Sizes
    encodings: str  # JSON
    tflite: bytes | None = None  # the same numbers as a .tflite file, where the target has one


def require_reachable(prepared: Prepared, requirements: Requirements) -> None:
    """Raise ConfigError where `requirements` ask for classes of a model whose outputs have none: no run could meet that."""
    if requirements.agreement is None or graph.may_have_classes(prepared.user):
        return
    shapes = {output.name: query.dims(output) or () for output in prepared.user.graph.outputs}
    outputs = ", ".join(f"'{name}' [{', '.join(str(size or 'N') for size in shape)}]" for name, shape in shapes.items())
    raise ConfigError(
        f"an agreement of {100 * requirements.agreement:g} % is required (--require-agreement), and no output has classes to "
        f"agree on ([N, K], or whole numbers): there is {outputs}. Require decibels instead: --require-sqnr"
    )


def deliver(
    prepared: Prepared,
    codes: Codes,
    target: Target,
    judges: Judges,
    requirements: Requirements,
    metadata: Mapping[str, str],
    progress: Callable[[Step], None],
) -> Delivery:
    """Export `codes` for `target` and judge the result on `judges`; the file says how it was judged."""
    codes = with_floored_scales(prepared.deploy, prepared.placement, codes, target.constraints)
    if target.form.style != "float":  # a float bias, too: whoever computes in integers rounds it by itself
        codes = with_room_for_biases(prepared.deploy, prepared.placement, codes, target.constraints)
    codes = with_narrow_weights(codes, target.constraints)
    tell = Tally(progress, Step(stage="export", iterations=CHECKS))
    placement = prepared.placement
    blocks = {block.name: block.nodes for block in prepared.blocks}
    metadata = {**metadata, "blocks": json.dumps(blocks)}
    if (scaled := equalisation_of(prepared)).factors:
        metadata["equalisation"] = scaled.packed()
    deploy = graph.with_constants(prepared.deploy, codes.biases)
    judged_form = dataclasses.replace(target, form=target.form.in_onnx)
    proto = exporter.export(deploy, prepared.user, placement, codes, judged_form, metadata)
    verdict = judge(prepared, codes, proto, judges, target, requirements, tell)
    if target.form.style == "qonnx" and verdict.parity.ok:
        twin, proto = proto, exporter.export(deploy, prepared.user, placement, codes, target, metadata)
        require_same(
            prepared, twin, proto, judges.held_back, "the file computes something else once it is written as Quant nodes"
        )
    judged = {"level": verdict.quality.level, "verdict": str(verdict.quality)}
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    onnx.helper.set_model_props(proto, {**properties, "genie_onnx.quality": json.dumps(judged)})
    if target.form.batch == "fixed" and verdict.parity.ok:
        free, proto = proto, exporter.fix_shapes(proto, graph.laid_out(prepared.shape, prepared.layout))
        require_same(prepared, free, proto, judges.held_back, "the file computes something else once its shapes are fixed")
    if verdict.parity.ok and (broken := broken_rules(proto, target)):  # else its shapes are open yet, and `write` says why
        raise RunError(
            f"the file is not what target {target.name} takes: {'; '.join(broken[:3])}. This is a defect; please report it"
        )
    table = exporter.encodings(placement, codes, blocks, target)
    bits = {spec.value: spec.bits for spec in placement.weights}
    proto = with_checksums(proto)
    tflite = to_tflite(proto) if target.form.style == "tflite" and verdict.parity.ok else None
    return Delivery(proto, verdict, sizes(prepared.user, prepared.deploy, bits, proto), json.dumps(table), tflite)


def write(delivery: Delivery, output: Path, sources: Sequence[Path]) -> Path:
    """Write the file and its encodings, never over one of `sources`, and return where: at `output`, or `aside` of it where the
    file is not what was asked for, so that nobody takes it for that. Raises ParityError for one that was judged broken."""
    require_parity(delivery.verdict.parity)
    path = output if delivery.verdict.quality.ok else aside(output)
    exporter.save(delivery.proto, path, sources)
    if delivery.tflite is not None:
        with replacing(tflite_path(path)) as partial:
            partial.write_bytes(delivery.tflite)
    write_text(encodings_path(path), delivery.encodings)
    return path


def aside(output: Path) -> Path:
    """Return where a file goes that is useless, or not what was required, instead of to `output`."""
    return beside(output, "useless.onnx")


def encodings_path(output: Path) -> Path:
    """Return where the encodings of `output` go."""
    return beside(output, "encodings.json")


def report_path(output: Path) -> Path:
    """Return where the report of `output` goes."""
    return beside(output, "report.json")


def beside(output: Path, ending: str) -> Path:
    """Return a name of its own beside `output`, so that no file of the user's has it."""
    return output.with_name(f"{output.name.removesuffix('.onnx')}.{ending}")
