"""Which kernels onnxruntime really runs at its default settings: integer ones, or float ones between Q and DQ.

Counted in the graph that onnxruntime writes out after optimising it. Of a file of ours, weighted layers are followed there by
name: a node keeps its own when it is replaced (Conv_1 -> Conv_1_token_4), or fused (MatMul_1/MatmulTransposeFusion/).
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from genie_onnx.validate.runtime_errors import runtime_errors
from genie_onnx.validate.session import File, session_options

FLOAT_KERNELS = ("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")
_INTEGER = ("QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat")  # beside QLinear...
_ADDED = ("_token_", "/")  # begins what onnxruntime adds to a node's name
UNTOLD = "onnxruntime computes it in float, although what it reads and writes has codes"


@dataclass(frozen=True, kw_only=True)
class KernelCounts:
    """Nodes of the optimised graph by operator: `integer` ones, and those of FLOAT_KERNELS in `floating` point, products of two
    computed values among them.

    `layers` is how many layers with weights the file has, `float_layers` those of them that compute in float, and why; None and
    empty for a file that does not say (of another program, or with rounded weights alone).
    """

    integer: dict[str, int]
    floating: dict[str, int]
    layers: int | None = None
    float_layers: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        return asdict(self)


def integer_kernels(model: File) -> KernelCounts:
    """Load `model` in onnxruntime with default options and count its kernels. Raises RunError where it refuses the model."""
    options = session_options(optimise=True)
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(optimised)
        source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
        plain = partial(ort.InferenceSession, source, session_options(optimise=False), providers=["CPUExecutionProvider"])
        with runtime_errors("load", plain):
            ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        proto = onnx.load_model(optimised)
    counts = Counter(node.op_type for node in proto.graph.node)
    reasons = weighted_layers(proto)
    in_integers = set() if reasons is None else _names(proto, reasons)
    floats = {name: why or UNTOLD for name, why in (reasons or {}).items() if name not in in_integers}
    return KernelCounts(
        integer={op: n for op, n in sorted(counts.items()) if _is_integer(op)},
        floating={op: n for op, n in sorted(counts.items()) if op in FLOAT_KERNELS},
        layers=None if reasons is None else len(reasons),
        float_layers=floats,
    )


def weighted_layers(proto: onnx.ModelProto) -> dict[str, str] | None:
    """Return the weighted layers that the file's metadata name, with what keeps each from an integer kernel.

    None where the file does not say, or not in a form of ours.
    """
    text = next((entry.value for entry in proto.metadata_props if entry.key == "genie_onnx.layers"), "")
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return {str(name): str(why) for name, why in found.items()} if isinstance(found, dict) else None


def _is_integer(op: str) -> bool:
    return op.startswith("QLinear") or op in _INTEGER


def _names(proto: onnx.ModelProto, layers: Mapping[str, str]) -> set[str]:
    """Return those of `layers` that are integer nodes of an optimised graph."""
    names = [node.name for node in proto.graph.node if _is_integer(node.op_type)]
    longest_first = sorted(layers, key=len, reverse=True)
    added = [next((own for own in longest_first if n.startswith(tuple(own + end for end in _ADDED))), None) for n in names]
    own = {name for name in names if name in layers}
    return own.union(longer for name, longer in zip(names, added, strict=True) if longer is not None and name not in layers)
