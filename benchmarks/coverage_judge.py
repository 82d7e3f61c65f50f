"""One model file judged: is it read rightly, into which blocks does it fall, does it quantize, does the result run in integers?

Told as soon as each stage is over, so that a crash tells how far it came:

    "import"    opset, batch, BatchNormalizations, blocks by kind, seconds and peak MB up to a network that can run
    "values"    every value of the graph, network against onnxruntime: how many, and the largest relative error
    "quantize"  parity of the quantised file, layers in integer kernels, seconds and peak MB
    "refused"   the sentences with which the model was refused
"""

from __future__ import annotations

import gc
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from coverage_process import Tell

from genie_onnx.config import DistillConfig, PlacementConfig, QuantizeConfig, ReconstructConfig
from genie_onnx.effort import PRESETS
from genie_onnx.errors import InputError
from genie_onnx.graph import query
from genie_onnx.importer import Network
from genie_onnx.pipeline.quantize import quantize
from genie_onnx.preparation.prepare import Prepared, prepare
from genie_onnx.synthesis import with_measurements
from genie_onnx.validate import run
from genie_onnx.validate.session import Array

IMAGES = 2  # the least of everything: the table is about what works, not about accuracy
MINIMAL = QuantizeConfig(
    samples=IMAGES,
    distill=DistillConfig(iterations=1, start=PRESETS["fast"].start, refine_iterations=1),
    reconstruct=ReconstructConfig(iterations=1),
    device="cpu",
)
BATCHES = (1, 4)
SMALL = 0.01  # smaller values may be what is left of large ones: sums that cancel are right to float32's rounding of their terms
WEIGHTED_KERNELS = ("QLinearConv", "QGemm", "QLinearMatMul", "ConvInteger", "MatMulIntegerToFloat")


def judge(tell: Tell, model: Path, size: tuple[int, int] | None, raw_pixels: bool, few_shot: bool) -> None:
    """Go through all stages.

    `size` is (H, W) where the model leaves them open; `raw_pixels`: it takes 0..255; `few_shot`: calibrate on random images
    given as data. Raises whatever goes wrong.
    """
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _stages(tell, model, size, raw_pixels, few_shot, Path(folder))
    except InputError as error:
        tell(stage="refused", problems=list(error.problems))


def _stages(tell: Tell, model: Path, size: tuple[int, int] | None, raw_pixels: bool, few_shot: bool, folder: Path) -> None:
    started = time.monotonic()
    prepared = prepare(model, PlacementConfig(), size)
    network = prepared.network
    import_seconds, import_mb = time.monotonic() - started, peak_mb()
    file = ir.external_data.load_to_model(ir.load(model))  # weights beside the file, too
    if query.image_input(file).dtype != ir.DataType.FLOAT:
        file = prepared.user  # half precision, read as float32
    opset = query.opset(file)
    tell(stage="import", opset=opset, **findings(prepared), import_seconds=import_seconds, import_mb=import_mb)

    spread, centre = (64, 128) if raw_pixels else (1, 0)
    random = np.random.default_rng(0)
    images = random.normal(centre, spread, [max(BATCHES), *prepared.shape]).astype(np.float32)
    values, error, worst = import_errors(file, prepared, network, images)
    tell(stage="values", values=values, import_error=error, worst_value=worst)
    del file, network, prepared
    gc.collect()  # graphs refer to themselves in circles

    started = time.monotonic()
    data = []
    if few_shot:
        data = [folder / "images.npz"]
        np.savez(data[0], images=images)
    report = quantize(model, folder / "model.quant.onnx", config=MINIMAL, data=data, input_size=size).report
    kernels = report.parity["kernels"]
    integer = sum(kernels["integer"].get(kind, 0) for kind in WEIGHTED_KERNELS)
    tell(
        stage="quantize",
        images=report.images,
        flip_rate=report.parity["flip_rate"],
        whole_flip_rate=report.parity["whole_flip_rate"],
        integer_layers=integer,
        layers=integer + sum(kernels["floating"].values()),
        kept_float=report.kept_float,
        seconds=time.monotonic() - started,
        mb=peak_mb(),
    )


def findings(prepared: Prepared) -> dict[str, Any]:
    """Return what is in the model."""
    first = query.image_input(prepared.user).shape
    assert first is not None
    kinds = Counter(block.kind for block in prepared.blocks)
    return {
        "batch": first[0] if isinstance(first[0], int) else "N",
        "shape": list(prepared.shape),
        "batchnorms": len(with_measurements(prepared.batchnorms)),
        "batchnorms_left": sum(node.op_type == "BatchNormalization" for node in prepared.deploy.graph),
        "weighted": len(query.weighted_nodes(prepared.deploy)),
        "blocks": len(prepared.blocks),
        "kinds": {kind: kinds[kind] for kind in ("core", "gated", "chain", "float") if kinds[kind]},
        "joining": sum(len(block.inputs) > 1 for block in prepared.blocks),
    }


def import_errors(file: ir.Model, prepared: Prepared, network: Network, images: Array) -> tuple[int, float, str]:
    """Return how many values were compared, the largest relative error of any, and the name of that value.

    Compared with onnxruntime, its own rewriting switched off, at both batch sizes: the values that the file itself has, at its
    own batch where that is fixed; every value of the normalised and of the deploy graph; the outputs of the file.
    """
    fixed = query.image_input(prepared.user).shape
    own = fixed[0] if fixed is not None and isinstance(fixed[0], int) else None
    name = network.inputs[0]
    errors: dict[str, float] = {}

    def compare(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> None:
        for value, array in wanted.items():
            errors[value] = max(errors.get(value, 0.0), relative_error(found[value], array))

    graphs = ((prepared.teacher, prepared.normalised), (network, prepared.deploy))
    for batch in BATCHES:
        feeds = {name: images[:batch]}
        ours = computed(graphs[1][0], network.outputs, feeds)
        compare(run(file, feeds, network.outputs, optimise=False), ours)
        for imported, model in graphs:
            known = {value.name for value in (*model.graph.initializers.values(), *model.graph.inputs)}
            values = [value for value in imported.nodes if value not in known]
            compare(run(model, feeds, values, optimise=False), computed(imported, values, feeds))
    feeds = {name: np.resize(images, (own or 1, *images.shape[1:]))}
    made = {value.name for node in file.graph for value in node.outputs}
    values = [value for value in graphs[0][0].nodes if value in made]
    compare(run(file, feeds, values, optimise=False), computed(graphs[0][0], values, feeds))
    worst = max(errors, key=errors.__getitem__)
    return len(errors), errors[worst], worst


def computed(network: Network, values: tuple[str, ...] | list[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return `values` by name as the imported network has them."""
    with torch.no_grad():
        found = network.extract(network.inputs, values)({name: torch.from_numpy(x) for name, x in feeds.items()})
    return {name: y.numpy() for name, y in found.items()}


def relative_error(found: Array, wanted: Array) -> float:
    """Return max |found - wanted| / max(max |wanted|, SMALL); infinite for other shapes. Equal infinities and NaNs are equal."""
    if found.shape != wanted.shape:
        return float("inf")
    if found.dtype == wanted.dtype == np.float32 and np.isfinite(found).all() and np.isfinite(wanted).all():
        return float(np.abs(found - wanted).max(initial=0.0) / max(np.abs(wanted).max(initial=0.0), SMALL))
    with np.errstate(invalid="ignore"):  # inf - inf
        a, b = found.astype(np.float64), wanted.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        error = np.nan_to_num(np.where(same, 0.0, np.abs(a - b)), nan=np.inf).max(initial=0.0)
    return float(error / max(np.abs(b[np.isfinite(b)]).max(initial=0.0), SMALL))


def peak_mb() -> float:
    """Return the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes, on Linux
