"""A user's graph in the one form that the rest of the package works on.

In: what `load` returned. Out: a copy that computes the same and in which

    every constant is an initializer (Constant nodes, Identities and whole constant subgraphs are folded),
    no node is dead, no optional output is unused, nothing is left of training,
    pads are numbers (no auto_pad), Pad and Resize name no axes, the batch is the symbolic dimension N,
    every node has a unique name, every value a shape, and nodes stand in topological order.

Values that survive keep the user's names. The batch is bound to one number (1 where the file leaves it open) while
shapes are folded, then freed: so shape arithmetic on the batch vanishes too, whatever form the exporter gave it.
Where the batch cannot be freed, a file that leaves it open is folded with it open, and a file that fixes it stays
fixed: `free_batch.batch_obstacle` says why, and `check` refuses such a file, because distillation and
reconstruction run batches.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass

from genie_onnx.graph.batch_axis import FixedBatchError
from genie_onnx.graph.bypass import bypass
from genie_onnx.graph.constant_outputs import name_constant_outputs
from genie_onnx.graph.counted_pads import drop_counted_pads
from genie_onnx.graph.explicit_pads import explicit_pads
from genie_onnx.graph.fold_constants import fold_constants
from genie_onnx.graph.free_batch import batch_input, free_batch
from genie_onnx.graph.full_axes import write_out_axes
from genie_onnx.graph.inference_mode import inference_mode
from genie_onnx.graph.joined_constants import add_joined_constants
from genie_onnx.graph.names import fix_names
from genie_onnx.graph.pool_pads import absorb_padding
from genie_onnx.graph.whole_gather import reshape_whole_gathers


def normalise(model: ir.Model) -> ir.Model:
    """Return the canonical copy of `model`; `model` itself is not changed. Raises ModelError where constants do not fit."""
    try:
        return free_batch(_canonical(model, bind=True))
    except FixedBatchError:
        return _canonical(model, bind=False)


def _canonical(model: ir.Model, *, bind: bool) -> ir.Model:
    model = model.clone()
    if bind:
        _bind_batch(model)
    TopologicalSortPass()(model)
    inference_mode(model)
    bypass(model)
    fold_constants(model)
    name_constant_outputs(model)
    bypass(model)  # an Identity of what has become an initializer
    reshape_whole_gathers(model)
    write_out_axes(model)
    if bind:
        add_joined_constants(model)
    explicit_pads(model)
    drop_counted_pads(model)
    absorb_padding(model)
    RemoveUnusedNodesPass()(model)
    return fix_names(model)


def _bind_batch(model: ir.Model) -> None:
    value = batch_input(model)
    if value is not None and value.shape is not None and not isinstance(value.shape[0], int):
        value.shape = ir.Shape([1, *value.shape[1:]])
