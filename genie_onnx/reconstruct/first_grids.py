"""The grids of all values as reconstruction begins with them, as codes: for trials of values alone."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from genie_onnx.events import Step
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import Placement
from genie_onnx.quant import NORM
from genie_onnx.reconstruct.calibrate import calibrate
from genie_onnx.reconstruct.codes import Codes
from genie_onnx.reconstruct.final import settled
from genie_onnx.reconstruct.walk import SQUARED
from genie_onnx.seeds import stream
from genie_onnx.targets import Constraints

PIECES = 4  # a batch is run in, so that no more images are held at once than where blocks and values are measured


def first_grids(
    network: Network,
    placement: Placement,
    images: Tensor,
    *,
    input_range: tuple[float, float],
    headroom: float,
    seed: int,
    compute: Compute,
    constraints: Constraints,
    closed: bool,
    progress: Callable[[Step], None] = lambda step: None,
) -> Codes:
    """Return the grid of every activation in `placement`, found on some of `images` [N, C, H, W]; `closed`: whether closed form
    follows. The rest as in `reconstruct`, which has the same grids before it learns them.

    Raises RunError where a value is not finite.
    """
    device = compute.device
    with Compute(device).products():
        grids = calibrate(
            network.to(device),
            placement,
            images,
            stream(seed, "calibrate", device),
            headroom,
            constraints,
            pieces=PIECES,
            progress=progress,
            norm=SQUARED if closed else NORM,
            input_range=input_range,
        )
    return Codes(activations={name: settled(name, grid.scale, grids, placement) for name, grid in grids.items()})
