"""What `inspect` found, as text: facts, the blocks as a tree, and what is rounded to how many bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from genie_onnx_cli.show import by_bits, console, grouped, layers, not_for, size
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from genie_onnx import InspectedBlock, InspectedNode, Inspection

_LAYER, _FLOAT = "bold", "yellow"
_UNBOUNDED = 10_000  # columns: a tree is cut off at the width of its console, and names of nodes are long


def inspection(found: Inspection, verbose: bool, target: str) -> None:
    """Print what `inspect` found for files of `target`; `verbose` names every node and every rounded value."""
    _facts(found)
    Console(highlight=False, width=_UNBOUNDED).print(_tree(found, verbose))
    _rounding(found, verbose)
    console.print(
        f"size: {size(found.float_bytes)} now, {size(found.packed_bytes)} at true bits ({found.parameters:,} parameters)"
    )
    console.print(f"images without --data: {found.images} ({found.images_reason})")
    for notice in (*found.notices, not_for(target, (value.bits for value in found.activations))):
        if notice is not None:
            console.print(f"note: {notice}")
    if found.export_call is not None:
        console.print(f"to keep BatchNormalization: {found.export_call}")


def _facts(found: Inspection) -> None:
    console.print(f"opset {found.opset}, IR {found.ir_version}, from {found.producer}")
    fixed = ", ".join(f"{name} {value}" for name, value in found.fixed.items())
    last = "   channels last" if found.layout == "nhwc" else ""
    console.print(f"input   {found.input[0]} {_shape(found.input[1])}{last}   fixed: {fixed or 'nothing'}")
    for name, shape in found.outputs:
        console.print(f"output  {name} {_shape(shape)}")
    console.print("operators: " + _counted(op for op, count in found.operators.items() for _ in range(count)))
    layers, unit = found.convolutions + found.covered_products, "convolutions"
    unit += " and matrix products" if found.covered_products else ""
    console.print(
        f"BatchNormalization with statistics: {found.batchnorms} ({found.batchnorms_left} cannot be folded and stay float); "
        f"known of {layers - len(found.uncovered)} of {layers} {unit}"
    )
    console.print(f"strided convolutions: {len(found.strided)}")


def _shape(shape: Iterable[int | str | None]) -> str:
    return f"[{', '.join('?' if d is None else str(d) for d in shape)}]"


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(names).most_common())


def _tree(found: Inspection, verbose: bool) -> Tree:
    layers = sum(len(block.weighted) for block in found.blocks)
    tree = Tree(f"{layers} layers in {len(found.blocks)} blocks (W4A8: weights of 4 bits, input of 8)")
    for number, block in enumerate(found.blocks, start=1):
        branch = tree.add(_block(number, block, verbose))
        for node in block.nodes if verbose else block.weighted:
            branch.add(_node(node))
    return tree


def _block(number: int, block: InspectedBlock, verbose: bool) -> Text:
    text = Text(f"{number}  {block.kind}")
    others = [node.operator for node in block.nodes if node.weight is None]
    if others and not verbose:
        text.append(f"  + {_counted(others)}", style="dim")
    if verbose or len(block.inputs) > 1:
        text.append(f"  reads {', '.join(block.inputs)}", style="dim")
    if verbose or len(block.outputs) > 1:
        text.append(f"  yields {', '.join(block.outputs)}", style="dim")
    return text


def _node(node: InspectedNode) -> Text:
    if node.weight is None:
        text = Text(f"{node.operator} {node.name}")
    else:
        text = Text.assemble((f"{node.operator} {node.name}", _LAYER), f"  {_dimensions(node)}  ")
        text.append("float" if node.wbits is None else f"W{node.wbits}A{node.abits or ' float'}", style=_LAYER)
    if node.float_reason is not None:
        text.append(f"  float: {node.float_reason}" if node.weight is None else f": {node.float_reason}", style=_FLOAT)
    return text


def _dimensions(node: InspectedNode) -> str:
    stride = f" stride {'x'.join(map(str, node.strides))}" if node.strides else ""
    return "x".join(map(str, node.shape or ())) + stride


def _rounding(found: Inspection, verbose: bool) -> None:
    hint = "" if verbose else "   (-v: which, and who asks for it)"
    console.print(f"weights: {by_bits(v.bits for v in found.weights)}")
    console.print(f"values with Q/DQ: {by_bits(v.bits for v in found.activations)}{hint}")
    for value in (*found.weights, *found.activations) if verbose else ():
        console.print(f"  {value.bits} bits  {value.name}: {value.why}")
    _equalisation(found, verbose)
    floats = [node for block in found.blocks for node in block.nodes if node.float_reason is not None]
    for reason in dict.fromkeys(
        node.float_reason for node in floats if node.weight is None and node.name not in found.kept_float
    ):
        operators = _counted(n.operator for n in floats if n.weight is None and n.float_reason == reason)
        console.print(f"float: {operators}: {reason}")
    without = {node: why for node, why in found.kept_float.items() if node not in found.float_layers}
    if found.in_onnxruntime:
        layers(found.layers, found.float_layers, without, verbose)
    else:
        for line in grouped(found.kept_float, "nodes", verbose):
            console.print(f"kept float: {line}")
    for weight, nodes in found.tied.items():
        console.print(f"tied: {weight} is the weight of {', '.join(nodes)}")


def _equalisation(found: Inspection, verbose: bool) -> None:
    count, others = len(found.equalised), list(found.not_equalised.items())
    if not count + len(others):
        return
    shown = others if verbose else others[:1]
    hint = f" ... (-v: the other {len(others) - 1})" if len(others) > len(shown) else ""
    reasons = "".join(f"; not {value}: {why}" for value, why in shown[:1]) + hint
    console.print(f"channels equalised: {count} of {count + len(others)} values of at most 7 bits{reasons}")
    for value, why in shown[1:]:
        console.print(f"  not {value}: {why}")
