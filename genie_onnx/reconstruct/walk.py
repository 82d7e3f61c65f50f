"""The walk over the blocks: teacher and student are carried forward, each block is optimised once (paper, Algorithm 2).

    for each block, in topological order:
        y = f(x)                        teacher's output, from the teacher's input x
        v, s  <- optimise(f_q, x, x_q, y)
        y_q = f_q(x_q) at the final codes

Only values that a later block reads are kept, so time and memory are linear in depth.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from genie_onnx.blocks import Block
from genie_onnx.config import ClosedFormConfig, ReconstructConfig
from genie_onnx.events import Notice, Step, Tally
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import Placement, WeightSpec
from genie_onnx.quant import ANY, NORM
from genie_onnx.reconstruct.calibrate import calibrate
from genie_onnx.reconstruct.catching_up import FEW, joined, large_blocks
from genie_onnx.reconstruct.closed import Solved, solve_block
from genie_onnx.reconstruct.codes import Codes
from genie_onnx.reconstruct.final import final_block, settled, unlearned
from genie_onnx.reconstruct.forward import FORWARD_BATCH, forward
from genie_onnx.reconstruct.layout import to_stored
from genie_onnx.reconstruct.learn_block import Learning
from genie_onnx.reconstruct.learning_loop import BlockData
from genie_onnx.reconstruct.reading import Setting, elements_for
from genie_onnx.reconstruct.relief import Relief
from genie_onnx.reconstruct.store import ActivationStore, Stored
from genie_onnx.reconstruct.twin import Twin
from genie_onnx.seeds import stream
from genie_onnx.targets import PORTABLE, Constraints, Form

# Exponent of the error of values where closed form follows, which minimises squares. MobileNetV1 at W4A4, 64 images: the scores
# diverge by 0.52 from the float ones, by 0.57 with the 2.4 of Eq. 6.
SQUARED = 2.0


@dataclass(frozen=True)
class BlockResult:
    """What one block contributed: its codes, and its reconstruction loss at the start and at the end."""

    block: str
    codes: Codes
    loss: tuple[float, float]


def reconstruct(
    network: Network,
    placement: Placement,
    blocks: Sequence[Block],
    images: Tensor,
    config: ReconstructConfig,
    *,
    input_range: tuple[float, float],
    headroom: float,
    seed: int,
    compute: Compute,
    progress: Callable[[Step | Notice], None],
    finished: Callable[[BlockResult], None],
    done: Codes | None = None,
    constraints: Constraints = ANY,
    store: ActivationStore | None = None,
    closed: ClosedFormConfig | None = None,
    pieces: Mapping[str, Sequence[Block]] | None = None,
    twin: Twin | None = None,
) -> Codes:
    """Return the codes of every weight and the grid of every activation in `placement`.

    `images` is float32 [N, C, H, W], in the space the model takes, and `input_range` what real images span there. `headroom` (see
    `calibrate`) makes good for images that span less in inner 8-bit values; it is 1 with real images. `finished` gets each
    block's result as soon as it exists; `done` holds the codes of blocks finished in an earlier run, which are then only carried
    forward. `constraints` are the target's; scales that have to be powers of two are those found by search. `store` is where the
    values lie that are carried from block to block; None: on the device. With `closed` each block is rounded in closed form
    first, piece by piece (blocks.pieces), and learning starts from there; `twin` is what it imitates, where that is not `network`
    itself. Memory that runs out once is dealt with (relief), and told as a Notice.
    In a team every process makes this call, with the same arguments, and has the same codes in the end.
    Raises RunError where a loss or an activation is not finite, ConfigError where a batch is too small for the team.
    """
    device, team = compute.device, compute.team
    network = network.to(device)
    store = ActivationStore(device) if store is None else store
    relief = Relief(store, progress, team)
    with Compute(device).products():  # float values are those of IEEE arithmetic, here as in `_outputs`
        grids = relief(
            lambda: calibrate(
                network,
                placement,
                images,
                stream(seed, "calibrate", device),
                headroom,
                constraints,
                pieces=relief.pieces,
                progress=progress,
                norm=NORM if closed is None else SQUARED,
                input_range=input_range,
            )
        )
    image_spec = placement.activation_of(network.inputs[0])
    twin = Twin(network) if twin is None else Twin(twin.network.to(device), twin.scales)
    setting = None
    if closed is not None:
        elements = elements_for(compute)
        setting = Setting(network, twin, placement, grids, closed, constraints, seed, compute, store, relief, elements)
    readers = Counter(value for block in blocks for value in block.inputs)
    large = large_blocks(network, blocks, images[:1].to(device)) if closed is not None and len(images) > FEW else 0
    source = _images(store, images[:FEW] if large else images)
    teacher, student = {network.inputs[0]: source}, {network.inputs[0]: source}
    codes = Codes() if done is None else done
    if image_spec is not None:
        fixed = {image_spec.name: settled(image_spec.name, grids[image_spec.name].scale, grids, placement)}
        codes = codes.merged(Codes(activations=fixed))
    learnable = learned_blocks(blocks, placement)

    for place, block in enumerate(blocks):
        if large and place == large:
            rest = _images(store, images[FEW:])
            carry = partial(forward, inputs=[rest], store=store, relief=relief, team=team, tell=lambda done: None)
            weights = tuple(w for earlier in blocks[:place] for w in earlier.weights)
            before = dataclasses.replace(block, inputs=network.inputs, outputs=tuple(student), weights=weights)
            teacher = joined(store, teacher, carry(twin.function(network.inputs, tuple(teacher))))
            student = joined(store, student, carry(final_block(network, before, placement, codes, device)))
            rest.free()
        samples = FEW if place < large else len(images)
        here = Step(stage="targets", index=place, count=len(blocks), iterations=samples, name=block.name)
        to_learn = [w for w in _weights(block, placement) if w.value not in codes.weights]
        # What only the user reads of a block is compared while it learns, and not computed where it does not. Integers (indices,
        # masks) are handed on as each network has them: there is no error to take of them.
        targets = tuple(v for v in block.targets if to_learn or readers[v])
        part = dataclasses.replace(block, outputs=tuple(v for v in block.outputs if v in targets or readers[v]))
        inputs, inputs_q = (tuple(values[v] for v in block.inputs) for values in (teacher, student))
        learned = learnable.index(block.name) if to_learn else 0
        step = dataclasses.replace(here, stage="weights", index=learned, count=len(learnable), iterations=len(to_learn))
        first: Solved | None = None
        # A block that an earlier run finished goes the same way: carried otherwise its values would differ in their last bits.
        if setting is not None and (to_learn or (block.name in learnable and part.outputs)):
            whole = (block,) if pieces is None else pieces.get(block.name, (block,))
            given = [{v: values[v] for v in block.inputs} for values in (teacher, student)]
            solve = partial(solve_block, setting, block, whole, teacher=given[0], student=given[1])
            tell = Tally(progress, step if to_learn else here)
            first = solve(codes, outputs=part.outputs, tell=tell if to_learn else lambda done: None)
            if not to_learn:
                tell(here.iterations)
            made = {v: first.teacher[v] for v in part.outputs}
        else:
            teach = twin.function(part.inputs, part.outputs)
            stored = forward(teach, inputs, store, relief, team, Tally(progress, here)) if part.outputs else ()
            made = dict(zip(part.outputs, stored, strict=True))
        target = tuple(made[v] for v in targets)
        solved = () if first is None else (first,)
        if to_learn:
            learning = Learning(network, placement, grids, config, constraints, compute, relief, seed)
            channels = tuple(-1 if v in block.channels_last else 1 for v in targets)
            data = BlockData(inputs, inputs_q, target, channels)
            step = dataclasses.replace(step, stage="learn")
            compared = dataclasses.replace(block, outputs=targets) if targets else block
            result = learning.block(compared, to_learn, data, codes, first, step, progress)
            codes = codes.merged(result.codes)
            if first is not None and result.gained:
                first = solve(codes, outputs=part.outputs, tell=lambda done: None)
                solved = (*solved, first)
            finished(BlockResult(block.name, result.codes, result.loss))
        codes = codes.merged(unlearned(block, network, placement, grids, codes))
        teacher.update(made)
        carried = tuple(v for v in part.outputs if readers[v])
        if first is not None:
            student.update({v: first.student[v] for v in carried})
        elif carried:
            tell = Tally(progress, dataclasses.replace(here, stage="carry"))
            quantised = final_block(network, dataclasses.replace(block, outputs=carried), placement, codes, device)
            student.update(zip(carried, forward(quantised, inputs_q, store, relief, team, tell), strict=True))
        for left in (value for one in solved for values in (one.teacher, one.student) for value in values.values()):
            if left not in (*teacher.values(), *student.values()):
                left.free()
        readers.subtract(block.inputs)
        for values in (teacher, student):
            for value in [v for v in values if not readers[v]]:
                values.pop(value).free()
    open_ = [spec.name for spec in placement.activations if spec.name not in codes.activations]  # outputs, where they are rounded
    return codes.merged(Codes(activations={name: settled(name, grids[name].scale, grids, placement) for name in open_}))


def _images(store: ActivationStore, images: Tensor) -> Stored:
    (stored,) = store.put(len(images), ([to_stored(batch)] for batch in images.split(FORWARD_BATCH)))
    return stored


def simulate(
    network: Network,
    placement: Placement,
    blocks: Sequence[Block],
    codes: Codes,
    images: Tensor,
    form: Form = PORTABLE.form,
    alive: Callable[[], None] = lambda: None,
    floats: Collection[str] = (),
) -> dict[str, Tensor]:
    """Return the outputs of the quantised network and every quantised value, as the file exported in `form` computes them.

    Keys are value names: graph outputs and `floats` as they are, the values of every ActivationSpec *before* they are rounded
    (those behind a pass-through operator are on their grid already). `images` is [N, C, H, W]. `alive` is called after
    each block.
    """
    quantised = {value for spec in placement.activations for value in spec.values}.union(floats)
    values: dict[str, Tensor] = {network.inputs[0]: images}
    for block in blocks:
        inner = [v for v in _own_values(network, block) if v in quantised and v not in block.outputs]
        probe = dataclasses.replace(block, outputs=(*block.outputs, *inner))
        function = final_block(network, probe, placement, codes, images.device, form)
        with torch.no_grad():
            values.update(zip(probe.outputs, function(*(values[v] for v in block.inputs)), strict=True))
        alive()
    return {value: y for value, y in values.items() if value in quantised or value in network.outputs}


def _weights(block: Block, placement: Placement) -> list[WeightSpec]:
    """Return the specs of the quantised weights of `block`."""
    specs = (placement.weight_of(w) for w in block.weights)
    return [spec for spec in specs if spec is not None]


def learned_blocks(blocks: Sequence[Block], placement: Placement) -> list[str]:
    """Return the names of the blocks that learn something: they have a quantised weight that no block before them has."""
    return list(new_weights(blocks, placement))


def new_weights(blocks: Sequence[Block], placement: Placement) -> dict[str, tuple[str, ...]]:
    """Return the quantised weights that each block learns, those that no block before it has; blocks without any are left out."""
    first = {spec.value: block.name for block in reversed(blocks) for spec in _weights(block, placement)}
    new = {b.name: tuple(s.value for s in _weights(b, placement) if first[s.value] == b.name) for b in blocks}
    return {name: weights for name, weights in new.items() if weights}


def _own_values(network: Network, block: Block) -> set[str]:
    """Return the names of the values computed inside `block`."""
    return set(network.extract(block.inputs, block.outputs).nodes) - set(block.inputs)
