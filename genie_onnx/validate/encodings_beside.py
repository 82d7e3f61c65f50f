"""A file held against the encodings beside it: scales and zero points, which that JSON has in full.

NAME.onnx, NAME.encodings.json  ->  a sentence for each grid that is another, with both numbers
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

FORMAT = "genie-onnx encodings 1"
LARGEST = 2**28  # bytes; those of a hundred thousand channels take some million


def read_encodings(model: Path) -> dict[str, Any] | str | None:
    """Return the encodings beside `model`; None where there are none, a sentence where they cannot be used."""
    path = model.with_name(f"{model.name.removesuffix('.onnx')}.encodings.json")
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > LARGEST:
            return f"{path.name} is larger than encodings can be: not looked at"
        table = json.loads(path.read_text(encoding="utf-8"))
        if table["format"] != FORMAT or not all(isinstance(table[kind], dict) for kind in ("weights", "values")):
            raise ValueError(f"its format is not '{FORMAT}'")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"{path.name} cannot be read as encodings ({error}): not looked at"
    return dict(table)


def other_grids(proto: onnx.ModelProto, encodings: dict[str, Any]) -> dict[str, str]:
    """Return a sentence for each weight and value that `proto` has on another grid than `encodings`, by the name of what the
    node on that grid makes. Those that the file does not round are passed over: `checksums` knows of them."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes = {name: node for node in proto.graph.node for name in node.output if len(node.input) == 3}
    found = {}
    for kind, operator, endings in (
        ("weights", "DequantizeLinear", ("", "_dequantized")),
        ("values", "QuantizeLinear", ("_quantized", "_rounded")),
    ):
        for name, entry in encodings[kind].items():
            for output in (name + ending for ending in endings):
                node = nodes.get(output)
                if node is None or node.op_type != operator or not all(part in constants for part in node.input[1:]):
                    continue
                scale, zero_point = (numpy_helper.to_array(constants[part]) for part in node.input[1:])
                said = _difference(scale, zero_point, entry)
                if said is not None:
                    found[output] = f"'{output}', {operator} '{node.name}': {said}"
                break
    return found


def _difference(scale: np.ndarray, zero_point: np.ndarray, entry: Any) -> str | None:
    try:
        wanted = np.asarray(entry["scale"], np.float32).reshape(-1)
        stored = np.asarray(entry["stored"].get("zero_point", 0), np.int64).reshape(-1)
    except (KeyError, TypeError, ValueError, AttributeError):
        return "its entry in the encodings is damaged"
    ours = scale.astype(np.float32).reshape(-1)
    if ours.shape != wanted.shape:
        return f"{ours.size} scales, {wanted.size} in the encodings"
    if (differing := np.flatnonzero(ours != wanted)).size:
        at = differing[0]
        where = f" of channel {at} (and of {differing.size - 1} more)" if ours.size > 1 else ""
        return f"scale {ours[at]:.6g}{where}, {wanted[at]:.6g} in the encodings"
    zeros = zero_point.astype(np.int64).reshape(-1)
    if stored.size in (1, zeros.size) and (zeros != stored).any():
        return f"zero point {zeros[0]}, {stored[0]} in the encodings"
    return None
