"""What hls4ml needs of a graph in QONNX form, beyond the form itself (seen in 1.3.0).

    Conv(x, w, b), w with a scale a channel     ->    Conv(x, w) -> Add(b)      it takes the bias out of such a scale's way alone
    AveragePool, GlobalAveragePool              ->    Conv (mean_convolutions)

Its own GlobalAveragePool averages over other numbers, as it reads channels first as channels last. Other operators than those
below it refuses or was not seen to compute to the last bit, so they are refused before a run.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from genie_onnx.exporter.builder import Builder
from genie_onnx.exporter.mean_convolutions import POOLS, mean_problem
from genie_onnx.graph import query

OPERATORS = ("Add", "Conv", "Flatten", "Gemm", "Identity", "MatMul", "MaxPool", "Relu", "Reshape", *POOLS)


def hls4ml_problems(model: ir.Model) -> list[str]:
    """Return a sentence for each node of a deploy graph that hls4ml does not take."""
    problems = []
    for node in model.graph:
        problem = _problem(node)
        if problem is not None:
            problems.append(f"{node.op_type} '{node.name}' {problem}")
    return problems


def _problem(node: ir.Node) -> str | None:
    if node.domain != "" or node.op_type not in OPERATORS:
        return f"is none of what hls4ml is known to compute exactly: {', '.join(OPERATORS)}"
    if node.op_type == "Conv":
        return _convolution_problem(node)
    if node.op_type in POOLS and (problem := mean_problem(node)) is not None:
        return f"{problem}; hls4ml has no exact average: resize the input, or flatten instead"
    return None


def _convolution_problem(node: ir.Node) -> str | None:
    shape, groups = query.dims(query.weight(node)), query.attribute(node, "group", 1)
    assert shape is not None
    if len(shape) != 4:
        return f"has {len(shape) - 2} spatial dimensions; hls4ml was seen to compute 2 exactly"
    if groups != 1 and (shape[1] != 1 or shape[0] != groups):
        return f"has {groups} groups of several channels; hls4ml has 1 group, or a channel each"
    return None


def part_biases(builder: Builder, weights: Collection[str]) -> None:
    """Put the bias of each Conv that reads one of `weights` into an Add behind it, in place."""
    for node in list(builder.graph):
        bias = query.bias(node)
        if node.op_type != "Conv" or bias is None or node.inputs[1] is None or node.inputs[1].name not in weights:
            continue
        array = query.constant(bias)
        assert array is not None  # `check` lets no other pass
        rank = len(query.attribute(node, "kernel_shape", ()))
        addend = builder.initializer(f"{bias.name}_parted", array.reshape(1, -1, *[1] * rank))
        output = node.outputs[0]
        readers = list(output.uses())
        total = builder.node("Add", [output, addend], str(node.name), f"{output.name}_biased")
        builder.graph.insert_after(node, total)
        builder.take_over(output, total.outputs[0], readers)
        node.resize_inputs(2)
