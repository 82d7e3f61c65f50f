"""Every grid of a quantised model as plain data, for compilers that do not read Q/DQ, and for those that pack weights.

    value = scale * (code - zero_point),   codes 0 .. 2^bits - 1,   min, max: what the first and the last code stand for

Written as JSON beside each file; lists have one entry a channel along `axis`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from genie_onnx.exporter.assemble import Codes
from genie_onnx.exporter.containers import store_grid, store_weight
from genie_onnx.placement import Placement
from genie_onnx.qparams import QParams
from genie_onnx.targets import Target

FORMAT = "genie-onnx encodings 1"


def encodings(placement: Placement, codes: Codes, blocks: Mapping[str, Sequence[str]], target: Target) -> dict[str, Any]:
    """Return the table; `blocks` has the names of the nodes of each block by its name, in order.

    `stored` is how the numbers are in the file: their type, and the zero point of that type, or its axis where it has several.
    """
    weights, values = {}, {}
    for weight in placement.weights:
        tensor = codes.weights[weight.value]
        stored: dict[str, Any] = {"dtype": "float32"}
        if target.form.style in ("qdq", "tflite"):
            form = store_weight(weight.value, tensor, target.form)
            stored = {"dtype": str(form.data.dtype), "zero_point": np.asarray(form.zero_point, np.int64).tolist()}
        weights[weight.value] = {"nodes": list(weight.nodes), **_grid(tensor.qparams), "stored": stored}
    for spec in placement.activations:
        grid = codes.activations[spec.name]
        stored = {"dtype": "float32"}
        if target.form.style in ("qdq", "tflite"):
            place = store_grid(spec.name, grid, target.form)
            stored = {"dtype": str(place.zero_point.dtype), "zero_point": int(place.zero_point)}
        for name in spec.values:
            values[name] = {"group": spec.name, **_grid(grid), "stored": stored}
    return {
        "format": FORMAT,
        "target": target.name,
        "blocks": [{"name": name, "nodes": list(nodes)} for name, nodes in blocks.items()],
        "weights": weights,
        "values": values,
    }


def _grid(grid: QParams) -> dict[str, Any]:
    ends = [grid.scale * (code - grid.zero_point) for code in (0, grid.qmax)]
    return {
        "bits": grid.bits,
        "dtype": f"uint{grid.bits}",
        "axis": grid.axis,
        "scale": grid.scale.tolist(),
        "zero_point": grid.zero_point.tolist(),
        "min": ends[0].tolist(),
        "max": ends[1].tolist(),
    }
