"""Where a quantised file loses against its float model, and what to do about it: value by value, block by block.

    float model -> graph as quantised (BatchNorm folded, channels scaled) --.
    quantised file -> what it rounds                                      --+-> values, weights, blocks -> effects -> diagnosis
    images                                                                --'

Where channels of the file are equalised, values and weights of both are at the file's scale; the float network computes the same.

Works on files alone, in onnxruntime: nothing of the simulation that the file was made with is in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import log10
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from genie_onnx import graph
from genie_onnx.blocks import partition
from genie_onnx.comparison.constant_fills import constant_fills
from genie_onnx.comparison.diagnosis import Evidence, diagnose
from genie_onnx.comparison.requantize import Origin
from genie_onnx.comparison.shared_grids import shared_grids
from genie_onnx.config import QuantizeConfig, from_json
from genie_onnx.data import PathLike, listed
from genie_onnx.errors import ConfigError, ModelError, RunError
from genie_onnx.events import Step, Tally
from genie_onnx.framing import Framing, Layout, LayoutChoice
from genie_onnx.graph import query
from genie_onnx.graph.channel_scales import Factors
from genie_onnx.grids.equalisation import unpacked
from genie_onnx.images.trial_images import taking, trial_images
from genie_onnx.preprocessing import Order, Preprocessing
from genie_onnx.spellings import renamed_arguments
from genie_onnx.validate import OutputComparison, compare_models, layerwise
from genie_onnx.validate.layerwise import Effects, Findings, ImagesKind

EFFECT_ELEMENTS = 2**25  # of rounded values: 64 images of a CIFAR ResNet-20, 16 of a MobileNet at 224x224
LEAST_EFFECT_SAMPLES = 16
UNEXPLAINED = 0.25  # of the noise: what else the file does may be this much before effects are not to be trusted


@renamed_arguments(order="channel_order")
def compare(
    float_model: PathLike | onnx.ModelProto,
    quantized: PathLike,
    *,
    data: PathLike | Sequence[PathLike] = (),
    samples: int = 64,
    effects: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channel_order: Order = "rgb",
    framing: Framing | None = None,
    input_size: tuple[int, int] | None = None,
    layout: LayoutChoice = "auto",
    set_inputs: Mapping[str, Sequence[float]] | None = None,
    seed: int = 0,
    progress: Callable[[Step], None] = lambda step: None,
) -> Findings:
    """Compare a quantised QDQ file with the float model it was made from, layer by layer.

    Args:
        float_model: as it was given to `quantize`: a path, or the model itself.
        quantized: the file; of `quantize` or of another tool that keeps the names of values and nodes.
        data: images, as for `quantize`; without them procedural ones are made from `seed`.
        samples: how many images, >= 1.
        effects: measure what each block does to the outputs: two runs of the network a block and image, on fewer images where
            values are large. The rest costs a few runs.
        mean, std, channel_order, framing: of the model's preprocessing; None: what the file says that it was made with.
        input_size: (H, W), where the model leaves them open.
        layout: of the input; auto: what the file was made with, else what the graph tells.
        set_inputs: numbers for inputs beside the image, as for `quantize`.
        progress: is told of images, then of runs of a batch (events).

    Raises ModelError, ConfigError and DataError for what cannot be used, also for files that do not belong together.

    >>> import genie_onnx
    >>> found = genie_onnx.compare("digits.onnx", "digits.quant.onnx", data="digits_test.npz", effects=False)
    >>> found.samples, found.outputs[0].name, found.outputs[0].agreement > 0.9
    (64, 'logits', True)
    >>> for advice in found.diagnosis:
    ...     print(advice.text, advice.command)  # doctest: +SKIP
    """
    paths = tuple(listed(data))
    file = graph.load(quantized)
    config, calibrated = _made_with(file)
    preprocessing = Preprocessing.of(mean, std, channel_order, framing)
    if config is not None:
        preprocessing = preprocessing.filled(config.preprocessing)
        layout = config.layout if layout == "auto" else layout
    user = graph.load(float_model)
    graph.fix_inputs(user, set_inputs or {})
    graph.widen(user)
    name = "MODEL.onnx" if isinstance(float_model, onnx.ModelProto) else str(float_model)
    takes = taking(user, Path(name), input_size, layout)
    images = trial_images(file, takes, paths, preprocessing, samples=samples, seed=seed)
    origin = Origin(
        model=name,
        quantized=str(quantized),
        config=config,
        calibrated=calibrated,
        judged=_judged(file),
        data=tuple(map(str, paths)),
        preprocessing=preprocessing,
        input_size=input_size,
        layout=layout,
        set_inputs=set_inputs or {},
    )
    qdq = layerwise.QdqGraph(file)
    reference, factors = _at_scale(_reference(user, file, takes.layout), file)
    pairing = layerwise.pair(reference, qdq)
    blocks = _blocks(reference, file)
    found = layerwise.parts(reference, pairing, blocks)
    tell = Tally(progress, Step(stage="values", iterations=len(images)))
    handed_on = [value for part in found for value in part.hands_on]
    network, switched, owner = layerwise.lifted(reference, pairing, layerwise.owners(blocks), factors)
    measured = layerwise.measure(network, qdq, pairing, handed_on, images, tell)
    effect_samples = min(len(images), max(LEAST_EFFECT_SAMPLES, EFFECT_ELEMENTS // measured.elements)) if effects else 0
    effect, notices = None, list(pairing.notices)
    if effects:
        effect = layerwise.effects(network, switched, owner, images[:effect_samples], _Runs(progress))
        same = measured.outputs  # outputs on the same images as effects
        if effect_samples < measured.samples:
            feeds = {str(query.image_input(reference).name): images[:effect_samples]}
            same = compare_models(network, file, feeds).outputs
        notices += _unexplained(effect, same)
    values = layerwise.value_findings(reference, pairing, measured, found)
    weights = layerwise.weight_findings(reference, pairing, owner)
    evidence = Evidence(
        images=_kind(paths),
        outputs=measured.outputs,
        values=values,
        weights=weights,
        blocks=layerwise.block_findings(found, weights, values, measured, effect),
        shared=shared_grids(reference, {value.value: (value.scale, value.zero_point, value.bits) for value in values}),
        fills=constant_fills(reference),
    )
    return Findings(
        samples=measured.samples,
        effect_samples=effect_samples,
        images=evidence.images,
        outputs=measured.outputs,
        values=values,
        weights=weights,
        blocks=tuple(evidence.blocks),
        diagnosis=diagnose(evidence, origin),
        notices=tuple(notices),
    )


def _kind(paths: Sequence[PathLike]) -> ImagesKind:
    """Return what images lie in `paths`: those that a run calibrated on tell nothing of what calibration did not see."""
    if not paths:
        return "procedural"
    return "calibration" if all(_of_a_run(Path(path)) for path in paths) else "data"


def _of_a_run(path: Path) -> bool:
    """Whether `path` is the images.npz of a run directory."""
    if path.suffix.lower() != ".npz":
        return False
    with np.load(path, allow_pickle=False) as arrays:
        return "held_back_kind" in arrays.files


def _made_with(file: ir.Model) -> tuple[QuantizeConfig | None, str]:
    """Return the settings that a file was made with and where its calibration images came from, as far as its metadata say."""
    settings = file.metadata_props.get("genie_onnx.settings")
    try:
        config = None if settings is None else from_json(settings)
    except ConfigError:  # of another version: everything but the commands to try can be said without
        config = None
    return config, file.metadata_props.get("genie_onnx.images", "")


def _judged(file: ir.Model) -> str:
    """Return the verdict that a file has of itself in its metadata, where that is not a good one."""
    try:
        found = json.loads(file.metadata_props.get("genie_onnx.quality", "{}"))
        return "" if found.get("level", "good") == "good" else str(found.get("verdict", found["level"]))
    except (ValueError, AttributeError):  # not written by this program
        return ""


def _reference(user: ir.Model, file: ir.Model, layout: Layout) -> ir.Model:
    """Return the float graph with the nodes that were quantised: simplified, BatchNorm folded, unless the file has all that."""
    reference = graph.check(user, layout)
    there = {node.name for node in file.graph}
    if any(node.op_type in graph.SIMPLIFIED and node.name not in there for node in reference.graph):
        reference = graph.simplify(reference)
    kept, left = (sum(node.op_type == "BatchNormalization" for node in model.graph) for model in (reference, file))
    return graph.fold_batchnorm(reference) if left < kept else reference


def _at_scale(reference: ir.Model, file: ir.Model) -> tuple[ir.Model, dict[str, Factors]]:
    """Return the float graph with its channels scaled as those of the file are, and the factors [C] of each value that is.

    Layers have biases of their own there, as those have whose biases were moved. Raises ModelError where file and graph do not
    belong together.
    """
    names = json.loads(file.metadata_props.get("genie_onnx.weights", "{}"))
    layers = [str(node.name) for node in query.weighted_nodes(reference) if query.weight(node).name in names]
    reference = graph.with_own_biases(reference, layers)
    text = file.metadata_props.get("genie_onnx.equalisation")
    if text is None:
        return reference, {}
    found = graph.channels(reference, layers)
    try:
        equalisation = unpacked(text)
        return graph.scaled(reference, found, equalisation.of_variables(found)), equalisation.of_values(found)
    except RunError as error:
        raise ModelError(
            f"the channels of the quantized file cannot be brought to those of the float model ({error}): give the float model "
            "that the quantized one was made from"
        ) from error


def _blocks(reference: ir.Model, file: ir.Model) -> Mapping[str, Sequence[str]]:
    """Return the nodes of each block: those of the run, where the file has them, else as `quantize` would cut this graph."""
    text = file.metadata_props.get("genie_onnx.blocks")
    blocks: dict[str, list[str]] = json.loads(text) if text else {}
    if {node for nodes in blocks.values() for node in nodes} == {str(node.name) for node in reference.graph}:
        return blocks
    return {block.name: block.nodes for block in partition(reference)}


def _unexplained(effect: Effects, outputs: Sequence[OutputComparison]) -> list[str]:
    """Say where the file, which has these `outputs`, is another network than the sum of what was found in it."""
    file, known = (10 ** (-db / 10) for db in (min(output.sqnr_db for output in outputs), effect.all.sqnr_db))
    if abs(file - known) <= UNEXPLAINED * max(file, known):
        return []
    return [
        f"What is rounded in the file explains {10 * log10(1 / known):.1f} dB at the outputs, and the file is at "
        f"{10 * log10(1 / file):.1f} dB: "
        "it differs from the float model in something else too. Take effects of blocks with care."
    ]


class _Runs:
    """Tells of runs, whose number is known with the first."""

    def __init__(self, progress: Callable[[Step], None]) -> None:
        self._progress = progress
        self._tally: Tally | None = None

    def __call__(self, done: int, runs: int) -> None:
        if self._tally is None:
            self._tally = Tally(self._progress, Step(stage="effects", iterations=runs))
        self._tally(done)
