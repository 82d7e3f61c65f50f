"""The bias behind a MatMul becomes its third input, as FULLY_CONNECTED has it.

    MatMul(x, w) -> Add(b) or Sum(b)   ->   MatMul(x, w, b)

Add is what models have, Sum what exporter.matmul_bias writes in its place. ONNX has no such MatMul: it is for products.matmul.
"""

from __future__ import annotations

import onnx


def with_biases_inside(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of `proto` with the biases of MatMuls that nothing but one Add or Sum reads as their third input."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    sizes = {tensor.name: list(tensor.dims) for tensor in made.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in made.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    handed_out = {value.name for value in made.graph.output}
    gone = set()
    for node in made.graph.node:
        behind = readers.get(node.output[0], []) if node.op_type == "MatMul" else []
        if len(behind) != 1 or node.output[0] in handed_out or behind[0].op_type not in ("Add", "Sum"):
            continue
        others = [name for name in behind[0].input if name != node.output[0]]
        if len(others) == 1 and others[0] in sizes and _is_row(sizes[others[0]]):
            node.input.append(others[0])
            node.output[0] = behind[0].output[0]
            gone.add(behind[0].output[0])
    kept = [node for node in made.graph.node if node.op_type not in ("Add", "Sum") or node.output[0] not in gone]
    del made.graph.node[:]
    made.graph.node.extend(kept)
    return made


def _is_row(dims: list[int]) -> bool:
    """Whether a constant has one number, or one an output: nothing but 1 in front of its last dimension."""
    return all(size == 1 for size in dims[:-1])
