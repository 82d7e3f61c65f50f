"""Values of a block for all samples: stored inputs in, stored outputs out, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from genie_onnx.errors import RunError
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.team import Team
from genie_onnx.reconstruct.layout import from_stored, to_stored
from genie_onnx.reconstruct.relief import Relief
from genie_onnx.reconstruct.store import ActivationStore, Stored

FORWARD_BATCH = 64  # samples per forward pass when values are carried from block to block ...
FORWARD_ELEMENTS = 2**21  # ... but no more than have so many elements at a block's inputs: bounds the memory at high resolutions


def forward(
    function: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Stored],
    store: ActivationStore,
    relief: Relief,
    team: Team,
    tell: Callable[[int], None],
) -> tuple[Stored, ...]:
    """Run `function` over stored `inputs` in batches and return its outputs, stored; `tell` is told how many samples are done."""
    size = batch_of(inputs)
    return relief(lambda: store.put(len(inputs[0]), _outputs(function, inputs, max(1, size // relief.pieces), team, tell)))


def _outputs(
    function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Stored], size: int, team: Team, tell: Callable[[int], None]
) -> Iterator[Sequence[Tensor]]:
    """Yield what `function` makes of `size` samples at a time, laid out as it is stored."""
    count = len(inputs[0])

    def batch(number: int) -> list[Tensor]:
        start = number * size
        samples = min(size, count - start)
        with torch.no_grad(), Compute(inputs[0].device).products():
            outputs = function(*(from_stored(x.slice(start, start + samples)) for x in inputs))
        if any(y.dim() == 0 or len(y) != samples for y in outputs):
            shapes = ", ".join(str(list(y.shape)) for y in outputs)
            raise RunError(
                f"a block yields {shapes} for {samples} samples: values whose first dimension is not the batch cannot be "
                "carried from block to block. Please report this model"
            )
        return [to_stored(y) for y in outputs]

    for number, stored in enumerate(team.divided(-(-count // size), batch), start=1):
        yield stored
        tell(min(number * size, count))


def batch_of(inputs: Sequence[Stored]) -> int:
    """Return how many samples of `inputs` are run at once."""
    return max(1, min(FORWARD_BATCH, FORWARD_ELEMENTS // max(1, sum(x.shape.numel() for x in inputs))))
