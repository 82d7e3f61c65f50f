"""From a model file to everything a run needs to know about it, before any long work starts.

file -> user's graph -> normalised graph (simplified, BatchNorm kept) -> deploy graph (folded) -> placement, blocks, float network
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import torch
from torch import Tensor

from genie_onnx import graph
from genie_onnx.blocks import Block, doubtful, merge, partition, pieces
from genie_onnx.config import PlacementConfig
from genie_onnx.errors import ConfigError, ModelError, RunError
from genie_onnx.forms import Case, Forms
from genie_onnx.framing import Layout, LayoutChoice
from genie_onnx.graph import BatchNorm, Coverage, query
from genie_onnx.importer import Network, import_graph
from genie_onnx.machine.memory import is_out_of_memory
from genie_onnx.placement import Placement, place
from genie_onnx.targets import PORTABLE, Constraints
from genie_onnx.validate import first_difference, run, run_part

Source = str | os.PathLike[str] | onnx.ModelProto

CHECK_BATCH = 2  # one batch size beyond 1: a batch baked into the graph shows
# Two float32 implementations of one network: sums in another order, some hundred layers deep (facts: 3.6e-5 at worst)
IMPORT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Prepared:
    """A model, checked and analysed. `normalised` and `deploy` share value names with `user`."""

    user: ir.Model
    normalised: ir.Model
    deploy: ir.Model
    batchnorms: tuple[BatchNorm, ...]
    placement: Placement
    blocks: tuple[Block, ...]
    shape: tuple[int, int, int]  # C, H, W of one input sample
    borrowed: tuple[BatchNorm, ...] = ()  # what another file tells of the outputs of folded layers (preparation.bn_file)
    layout: Layout = "nchw"  # of the input of `user` and the others; networks and images have theirs [N, C, H, W]
    notices: tuple[str, ...] = ()  # how `user` differs from what is in the file
    floats: ir.Model | None = None  # the deploy graph as it was, where channels of `deploy` are scaled ...
    factors: Mapping[str, npt.NDArray[np.float32]] = dataclasses.field(default_factory=dict)  # ... by so much [C], by value
    forms: Mapping[Case, Forms] = dataclasses.field(default_factory=dict)  # what its networks compute convolutions in

    @cached_property
    def statistics(self) -> tuple[BatchNorm, ...]:
        """What is known of values of `normalised`, the earliest first; BatchNorms that never measured anything are left out."""
        known = [b for b in (*self.batchnorms, *self.borrowed) if b.measured]
        if self.borrowed:
            place_of = {value.name: place for place, node in enumerate(self.normalised.graph) for value in node.outputs}
            known.sort(key=lambda b: place_of.get(b.value, -1))
        return tuple(known)

    @cached_property
    def coverage(self) -> Coverage:
        """Of which convolutions `statistics` tell."""
        return graph.coverage(self.normalised, [b.value for b in self.statistics])

    @cached_property
    def reference(self) -> ir.Model:
        """The user's model as onnxruntime runs it at default options, where its optimizer gets what it takes rightly."""
        return graph.without_axes(self.user)

    @cached_property
    def network(self) -> Network:
        """The float network of the deploy graph."""
        return import_graph(self.deploy, self.forms, self.layout)

    @cached_property
    def float_network(self) -> Network:
        """The network that is imitated: that of the deploy graph before its channels were scaled."""
        return self.network if self.floats is None else import_graph(self.floats, self.forms, self.layout)

    @cached_property
    def teacher(self) -> Network:
        """The float network with BatchNorm kept, as distillation needs it."""
        return import_graph(self.normalised, self.forms, self.layout)

    @cached_property
    def pieces(self) -> dict[str, tuple[Block, ...]]:
        """What each block is cut into for closed-form rounding, by its name; those that cannot be cut into samples stay whole."""
        found = pieces(self.deploy, self.blocks)
        own = {block.name: {v for part in found[block.name] for v in part.outputs} - set(block.outputs) for block in self.blocks}
        unbatched = set(_unbatched(self, [part for parts in found.values() for part in parts]))
        return {b.name: found[b.name] if unbatched.isdisjoint(own[b.name]) else (b,) for b in self.blocks}

    def with_own_biases(self) -> Prepared:
        """Return the same model with a bias of its own for every layer that is quantised, for closed-form rounding to move."""
        nodes = [node for spec in self.placement.weights for node in spec.nodes]
        return dataclasses.replace(self, deploy=graph.with_own_biases(self.deploy, nodes))

    def equalised(self, deploy: ir.Model, factors: Mapping[str, npt.NDArray[np.float32]]) -> Prepared:
        """Return the same model with the channels of values of its deploy graph scaled by `factors`, as `deploy` has them."""
        return dataclasses.replace(self, deploy=deploy, floats=self.deploy, factors=factors)

    def formed(self, forms: Mapping[Case, Forms]) -> Prepared:
        """Return the same model with networks that compute convolutions in `forms` on a CPU."""
        return dataclasses.replace(self, forms=forms)

    def feeds(self, images: torch.Tensor) -> dict[str, npt.NDArray[np.float32]]:
        """Return what a model with the input of `user` is fed for `images` float32 [N, C, H, W]."""
        return {str(query.image_input(self.user).name): graph.as_fed(images.numpy(), self.layout)}

    def placed(self, placement: Placement) -> Prepared:
        """Return the same model with another placement; networks that were made of it are shared."""
        other = dataclasses.replace(self, placement=placement)
        made = self.__dict__.keys() - {field.name for field in dataclasses.fields(self)}  # cached: none reads placement
        other.__dict__.update({name: self.__dict__[name] for name in made})
        return other

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the normalised model, weights included."""
        return hashlib.sha256(ir.to_proto(self.normalised).SerializeToString(deterministic=True)).hexdigest()


def prepare(
    source: Source,
    config: PlacementConfig,
    input_size: tuple[int, int] | None = None,
    set_inputs: Mapping[str, Sequence[float]] | None = None,
    constraints: Constraints = PORTABLE.constraints,
    layout: LayoutChoice = "auto",
) -> Prepared:
    """Load, check and analyse a model, for a target with these `constraints`.

    `input_size` (H, W) is needed where the model leaves them open; `set_inputs` has numbers for inputs beside the image
    (graph.fix_inputs); `layout` is that of the input. Raises ModelError for what is not supported, all of it at once, and
    ConfigError where the size is missing or contradicts the model.
    """
    user, notices = _load(source, set_inputs or {})
    normalised = graph.simplify(graph.check(user, None if layout == "auto" else layout))
    found = graph.image_layout(user) if layout == "auto" else layout
    shape = _sample_shape(normalised, found, input_size)
    _name_ranks(normalised, found, shape)
    deploy = graph.fold_batchnorm(normalised)
    placement = place(deploy, config, constraints)
    if not placement.weights:
        raise _nothing_to_quantize(placement)
    prepared = Prepared(
        user=user,
        normalised=normalised,
        deploy=deploy,
        batchnorms=graph.batchnorms(normalised),
        placement=placement,
        blocks=partition(deploy),
        shape=shape,
        layout=found,
        notices=notices,
    )
    unbatched = _unbatched(prepared, prepared.blocks)
    return dataclasses.replace(prepared, blocks=merge(deploy, prepared.blocks, unbatched)) if unbatched else prepared


def _load(source: Source, set_inputs: Mapping[str, Sequence[float]]) -> tuple[ir.Model, tuple[str, ...]]:
    """Return the model in float32 with the image as its only input, and what the user should know about that."""
    user = graph.load(source)
    graph.fix_inputs(user, set_inputs)
    notices = [
        f"Input '{name}' is {', '.join(map(str, numbers))} for good (--set-input): the quantized model does not have it."
        for name, numbers in set_inputs.items()
    ]
    widened = graph.widen(user)
    if widened:
        notices.append(
            f"The model is {' and '.join(widened)}; it is read as float32, with the same weights. Inputs and outputs of that "
            "type are float32 in the quantized model."
        )
    return user, tuple(notices)


def _nothing_to_quantize(placement: Placement) -> ModelError:
    if not placement.float_nodes:
        return ModelError(
            "the model has no Conv, ConvTranspose, Gemm or MatMul with constant weights: there is nothing to quantize"
        )
    node, reason = next(iter(placement.float_nodes.items()))
    return ModelError(
        f"there is nothing to quantize: all {len(placement.float_nodes)} layers stay float, first '{node}' because: {reason}"
    )


def _name_ranks(normalised: ir.Model, layout: Layout, shape: tuple[int, int, int]) -> None:
    """Give the values of `normalised` the ranks they have for images of `shape`: as inferred, else as a run has them."""
    unknown = graph.name_ranks(normalised, (CHECK_BATCH, *graph.laid_out(shape, layout)))
    if not unknown:
        return
    network = import_graph(normalised, layout=layout)
    found = _run(network, [value for value in unknown if value in network.nodes], (CHECK_BATCH, *shape))
    graph.set_ranks(normalised, {value: y.dim() for value, y in found.items()})


def _run(network: Network, values: Sequence[str], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Return `values` of `network` for zeros of `shape`. Raises ModelError where it cannot be run on these."""
    part = network.extract(network.inputs, values)
    try:
        with torch.no_grad():
            return part({part.inputs[0]: torch.zeros(shape)})
    except RuntimeError as error:
        raise ModelError(f"the network cannot be run on input of shape {list(shape)}: {' '.join(str(error).split())}") from error


def _unbatched(prepared: Prepared, blocks: Sequence[Block]) -> list[str]:
    """Return the values between `blocks` whose first dimension is not the batch.

    Where the graph leaves that open (shapes computed while it runs), the network is run on two batch sizes.
    """
    values = [v for v in doubtful(prepared.deploy, blocks) if v in prepared.network.nodes]
    if not values:
        return []
    batched = set(values)
    for size in (CHECK_BATCH, CHECK_BATCH + 1):
        found = _run(prepared.network, values, (size, *prepared.shape))
        batched &= {v for v, y in found.items() if y.dim() > 0 and len(y) == size}
    return [v for v in values if v not in batched]


def check_import(prepared: Prepared, generator: torch.Generator) -> None:
    """Compare the imported network with onnxruntime on random input. Raises RunError naming the first value that differs."""
    network = prepared.network
    x = torch.randn((CHECK_BATCH, *prepared.shape), generator=generator)
    name, feeds = network.inputs[0], prepared.feeds(x)
    try:
        theirs = run(prepared.user, feeds, network.outputs, optimise=False)
    except RunError as error:  # what it cannot run is no model
        if is_out_of_memory(error):
            raise
        raise ModelError(str(error)) from error
    try:
        with torch.no_grad():
            ours = {value: y.numpy() for value, y in network({name: x}).items()}
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"the model was read wrongly: the imported network cannot be run, though onnxruntime runs the file ({error}). "
            "This is a defect of genie-onnx; please report it with the model"
        ) from error
    if first_difference(theirs, ours, IMPORT_TOLERANCE) is None:
        return
    values = [str(v.name) for node in prepared.deploy.graph for v in node.outputs if v.name in network.nodes]
    with torch.no_grad():
        inner = {v: y.numpy() for v, y in network.extract(network.inputs, values)({name: x}).items()}
    expected = run(prepared.deploy, feeds, values, optimise=False)
    overflowing = next((v for v in values if not np.isfinite(expected[v]).all()), None)
    if overflowing is not None:
        raise RunError(
            f"value '{overflowing}' of the model is not finite for ordinary numbers as input, in onnxruntime itself: "
            "weights are damaged or much too large. Export the model again"
        )
    values = [v for v in values if first_difference({v: expected[v]}, inner, IMPORT_TOLERANCE) is not None]
    if values and all(_same_from_same(prepared.deploy, v, {**inner, **feeds}) for v in values):
        return  # a function makes much of the last bits of what it reads: Log of what a Sigmoid makes of -13
    found = first_difference({v: expected[v] for v in values}, inner, IMPORT_TOLERANCE)
    where = "its outputs, though no value alone does" if found is None else str(found)
    raise RunError(
        f"the model was read wrongly: the imported network and onnxruntime differ in {where}. "
        "This is a defect of genie-onnx; please report it with the model"
    )


def _same_from_same(deploy: ir.Model, value: str, ours: Mapping[str, np.ndarray]) -> bool:
    """Whether onnxruntime makes the same of `value` as we do, from what our network has for the operator's operands."""
    producer = query.value_map(deploy)[value].producer()
    operands = [] if producer is None else [str(v.name) for v in producer.inputs if v is not None and not v.is_initializer()]
    if not operands or not all(operand in ours for operand in operands):
        return False
    found = run_part(deploy, {operand: ours[operand] for operand in operands}, value)
    return first_difference({value: found}, ours, IMPORT_TOLERANCE) is None


def _sample_shape(deploy: ir.Model, layout: Layout, input_size: tuple[int, int] | None) -> tuple[int, int, int]:
    channels, *size = graph.sample_sizes(deploy, layout)
    assert channels is not None  # graph.check
    found = (size[0], size[1])
    if input_size is None and None in found:
        raise ConfigError(
            "the model leaves height or width of its input open: choose a size for calibration with --input-size HxW"
        )
    height, width = (given if fixed is None else fixed for given, fixed in zip(input_size or found, found, strict=True))
    if input_size is not None and input_size != (height, width):
        raise ConfigError(
            f"--input-size or --crop {input_size[0]}x{input_size[1]} contradicts the model, whose input is {found[0]}x{found[1]}"
        )
    assert height is not None
    assert width is not None
    return channels, height, width


def output_path(source: Source, output: str | os.PathLike[str] | None) -> Path:
    """Return where the quantised model goes: `output`, else MODEL.quant.onnx beside the input.

    Raises ConfigError where that is the input itself, a directory, or cannot be written to.
    """
    if output is None:
        if isinstance(source, onnx.ModelProto):
            raise ConfigError("a model given in memory needs an output path")
        output = Path(source)
        output = output.with_name(output.name.removesuffix(".onnx") + ".quant.onnx")
    path = Path(output)
    if not isinstance(source, onnx.ModelProto) and path.exists() and path.samefile(source):
        raise ConfigError(f"the output {str(path)!r} is the input itself: choose another with -o")
    if path.is_dir():
        raise ConfigError(f"the output {str(path)!r} is a directory: give a file name with -o")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"the folder of the output {str(path)!r} does not exist")
    try:  # permissions alone do not tell: read-only and special file systems
        with tempfile.TemporaryFile(dir=folder):  # on Linux it has no name that a killed process could leave behind
            pass
    except OSError as error:
        raise ConfigError(f"the output {str(path)!r} cannot be written: {error.strerror}") from error
    return path
