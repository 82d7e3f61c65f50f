"""Every rounded value and every block output of a quantised file against the float network, on images.

Both networks run node by node side by side, in batches of as many images as fit a fixed number of elements; sums alone are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from genie_onnx.errors import ConfigError, DataError
from genie_onnx.graph import query
from genie_onnx.validate.compare import OutputComparison
from genie_onnx.validate.layerwise.pairing import Pairing
from genie_onnx.validate.layerwise.qdq_graph import QdqGraph
from genie_onnx.validate.layerwise.tallies import Nearness, OutputTally, ValueTally
from genie_onnx.validate.session import Array, Session

ELEMENTS = 2**24  # of all values that are looked at, in one batch: some 200 MB with their codes and differences


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Sums over `samples` images by value of the float graph. `elements`: looked at for one image."""

    samples: int
    elements: int
    values: dict[str, ValueTally]
    nearness: dict[str, Nearness]  # of the values asked for and the outputs, as other nodes read them in the file
    outputs: tuple[OutputComparison, ...]


def measure(
    reference: ir.Model,
    file: QdqGraph,
    pairing: Pairing,
    others: Sequence[str],
    images: Array,
    progress: Callable[[int], None],
) -> Measured:
    """Run the float graph and the file on `images` [N, C, H, W] and compare every rounded value, `others` and the outputs.

    Of `others`, those that the file does not have are left out. `progress` is told how many images are through. Raises
    ConfigError for fewer images than the file takes at a time, DataError where a value has another shape in the file.
    """
    name = str(query.image_input(reference).name)
    outputs = query.image_outputs(reference)
    there = query.value_map(file.model)
    plain = [v for v in dict.fromkeys((*outputs, *others)) if v in there and v not in pairing.values]
    where = {v: v for v in plain} | {v: rounded.dequantized for v, rounded in pairing.values.items()}
    codes = {v: rounded.codes for v, rounded in pairing.values.items()}
    exact_session = Session(reference, [v for v in where if v != name])
    file_session = Session(file.model, list(dict.fromkeys((*where.values(), *codes.values()))), optimise=False)
    values = {v: ValueTally(rounded.grid) for v, rounded in pairing.values.items()}
    nearness = {v: tally.nearness for v, tally in values.items()} | {v: Nearness() for v in plain}
    ends = OutputTally()
    fixed = (query.dims(query.image_input(file.model)) or (None,))[0]
    if fixed is not None and len(images) < fixed:
        raise ConfigError(f"the quantized file takes {fixed} images at a time, and there are {len(images)}: give more")
    elements = done = 0
    while done + (fixed or 1) <= len(images):
        size = fixed or (max(1, ELEMENTS // elements) if elements else 1)  # the first image tells how large they are
        batch = np.ascontiguousarray(images[done : done + size])
        exact = {**exact_session({name: batch}), name: batch}
        ours = file_session({name: batch})
        elements = max(1, sum(exact[v].size for v in where) // len(batch))
        for v, found in where.items():
            if ours[found].shape != exact[v].shape:
                raise DataError(f"'{v}' is {exact[v].shape} in the float model and {ours[found].shape} in the quantized one")
            if v in values:
                values[v].add(exact[v], ours[found], ours[codes[v]])
            else:
                nearness[v].add(exact[v], ours[found])
        ends.add({v: exact[v] for v in outputs}, {v: ours[where[v]] for v in outputs})
        done += len(batch)
        progress(done)
    return Measured(samples=done, elements=elements, values=values, nearness=nearness, outputs=ends.comparisons())
