"""Finding the Concats that lose one of their operands, by what the one grid of an integer Concat leaves of each.

    SQNR(q, round on the grid of p and q together) < LOST        most of q's numbers are one code
    SQNR(q, round on a grid of its own)           at least GAIN better

Layers that read such a Concat stay in float (placement.joins). Channels that equalisation will bring to one size are left to it:
they stay in integer kernels.
"""

from __future__ import annotations

from collections.abc import Callable

from genie_onnx import graph
from genie_onnx.config import QuantizeConfig
from genie_onnx.events import Step
from genie_onnx.grids.equalisation import equalises, quantised_nodes
from genie_onnx.grids.own import OwnGrid
from genie_onnx.grids.value_samples import look
from genie_onnx.images.kept import Calibration
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import ActivationSpec, joins
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.targets import WIDE

LOST = 10.0  # dB: at 8 bits a range of about a hundredth of the grid's
GAIN = 10.0  # dB more on its own grid


def lost_operands(
    prepared: Prepared, config: QuantizeConfig, calibration: Calibration, compute: Compute, progress: Callable[[Step], None]
) -> tuple[OwnGrid, ...]:
    """Return an entry for each Concat that loses an operand, of the one that loses most, as measured on some of the images."""
    constraints, placement = config.target.constraints, prepared.placement
    rounded = [
        (str(value.name), [str(v.name) for v in operands], spec)
        for value, operands in joins(prepared.deploy)
        if (spec := placement.activation_of(str(value.name))) is not None
    ]
    if not rounded:
        return ()
    alone = {
        v: ActivationSpec(name=v, values=(v,), roots=(v,), bits=spec.bits) for _, operands, spec in rounded for v in operands
    }
    wanted = alone.keys() | {root for *_, spec in rounded for root in spec.roots}
    seen = look(prepared, wanted, calibration.images, config.seed, compute, progress)
    scaled = config.closed_form is not None and config.closed_form.equalise and equalises(constraints)
    free = graph.channels(prepared.deploy, quantised_nodes(prepared)) if scaled else None
    found = []
    for value, operands, spec in rounded:
        losses = []
        for v in operands:
            shared, own = (seen.sqnr(v, s, calibration.headroom, constraints) for s in (spec, alone[v]))
            scalable = free is not None and spec.bits < WIDE and len(free.free(v)) > 0
            if shared < LOST and own - shared >= GAIN and not scalable:
                losses.append(OwnGrid(values=(value,), value=v, source=value, bits=spec.bits, shared_db=shared, own_db=own))
        if losses:
            found.append(max(losses, key=lambda grid: grid.own_db - grid.shared_db))
    return tuple(found)
