"""Transposes that cancel are taken out, and what stands between them works on the axes as they were before.

    y = Transpose(x, p), z = Transpose(y, q), q after p moves nothing       z reads x
    Transpose p -> Mul [C] -> Add -> Pad -> Transpose q                     Mul [C, 1, 1] -> Add -> Pad
    Transpose p -> Relu ---> Add -> ReduceMean (1, 2)                       Relu ---> Add -> ReduceMean (2, 3)
    Transpose p -> Mul [C] ---^                                             Mul [C, 1, 1] ---^

Exporters of channels-last frameworks put such a pair around every convolution. A region is all that hangs together of operators
that do not mind the order of axes, or name the axes that they work on; it is turned as a whole, and only where that leaves fewer
Transposes: those around it that undo each other are gone, and one is put wherever else a value enters or leaves it. Nodes keep
their names; a value that is turned takes the name of the Transpose's result that it has become, else keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import TopologicalSortPass

from genie_onnx.graph.initializers import add_initializer
from genie_onnx.graph.names import fresh_name
from genie_onnx.graph.ops import ELEMENTWISE, REDUCTION
from genie_onnx.graph.query import attribute, constant, dims, is_constant

Perm = tuple[int, ...]


def cancel_transposes(model: ir.Model) -> ir.Model:
    """Rewrite a model whose constants are folded, in place, and return it."""
    graph = model.graph
    while any(_cancelled(graph, node) or _relaid(graph, node) for node in graph if permutation(node) is not None):
        pass  # each time there are fewer
    TopologicalSortPass()(model)
    return model


def inverse(perm: Perm) -> Perm:
    """Return the permutation that undoes `perm`."""
    return tuple(int(i) for i in np.argsort(perm))


def permutation(node: ir.Node | None) -> Perm | None:
    """Return the permutation of a Transpose whose rank is known, None for anything else."""
    if node is None or node.domain != "" or node.op_type != "Transpose" or node.inputs[0] is None:
        return None
    axes = range(len(dims(node.inputs[0]) or dims(node.outputs[0]) or ()))
    perm: Perm = attribute(node, "perm", tuple(reversed(axes)))
    return perm if perm and sorted(perm) == list(axes) else None


def _cancelled(graph: ir.Graph, node: ir.Node) -> bool:
    """Take out the second of two Transposes that move nothing together, and the first where nothing else reads it."""
    source = node.inputs[0]
    first = None if source is None else source.producer()
    before, perm = permutation(first), permutation(node)
    if first is None or before is None or perm is None or perm != inverse(before) or first.inputs[0] is None:
        return False
    if not _stands_for(node.outputs[0], first.inputs[0]):
        return False
    graph.remove(node, safe=True)
    _drop(graph, first)
    return True


def _stands_for(value: ir.Value, other: ir.Value) -> bool:
    """Let `other`, which is the same, be read for `value`, under the name of a graph output; return whether that is possible."""
    name, is_output = value.name, value.is_graph_output()
    if is_output and (other.is_graph_input() or other.is_initializer() or other.is_graph_output()):
        return False
    value.replace_all_uses_with(other, replace_graph_outputs=True)
    if is_output:
        value.name, other.name = None, name
    return True


def _drop(graph: ir.Graph, node: ir.Node) -> None:
    if not any(v.uses() or v.is_graph_output() for v in node.outputs):
        graph.remove(node, safe=True)


@dataclass(frozen=True)
class _Leaving:
    """A value that is turned and read elsewhere: by `undoing`, Transposes that turn it as it will be, and by others."""

    value: ir.Value
    undoing: tuple[ir.Node, ...]  # one that is a graph output comes first: the value takes its name
    wanted: bool  # by others, as it is


@dataclass(frozen=True)
class _Region:
    """Nodes to be turned: axis i of their values is axis perm[i] afterwards."""

    perm: Perm
    nodes: dict[ir.Node, None]  # a set in order

    def entering(self) -> list[ir.Value]:
        """Return the values that are turned and come from elsewhere."""
        read = [v for node in self.nodes for v in _operands(node) if v.producer() not in self.nodes]
        return list(dict.fromkeys(read))

    def leaving(self) -> Iterator[_Leaving]:
        """Yield the values that are made here and read elsewhere."""
        for value in [v for node in self.nodes if not _ends(node) for v in node.outputs]:
            outside = [reader for reader, _ in value.uses() if reader not in self.nodes]
            undoing = [reader for reader in outside if permutation(reader) == inverse(self.perm)]
            undoing.sort(key=lambda node: not node.outputs[0].is_graph_output())
            named_twice = [node for node in undoing[1:] if node.outputs[0].is_graph_output()]  # a value has one name
            undoing = [node for node in undoing if node not in named_twice]
            if outside or value.is_graph_output():
                yield _Leaving(value, tuple(undoing), value.is_graph_output() or len(undoing) < len(outside))

    def gain(self) -> int:
        """Return how many Transposes there are less once the region is turned."""
        gain = sum(len(leaving.undoing) - leaving.wanted for leaving in self.leaving())
        for value in self.entering():
            if permutation(value.producer()) != self.perm:
                gain -= 1
            elif not value.is_graph_output() and all(reader in self.nodes for reader, _ in value.uses()):
                gain += 1
        return gain


def _relaid(graph: ir.Graph, transpose: ir.Node) -> bool:
    """Turn the region behind `transpose` where that leaves fewer Transposes."""
    perm = permutation(transpose)
    assert perm is not None
    region = _grown(transpose, perm)
    if not region.nodes or region.gain() <= 0:
        return False
    leaving = list(region.leaving())
    for value in region.entering():
        _enter(graph, region, value)
    for node in region.nodes:
        if node.op_type in ELEMENTWISE:
            _turn_constants(graph, node, perm)
        else:
            _MOVABLE[node.op_type](graph, node, perm)
        for value in node.outputs if not _ends(node) else ():
            value.shape = None if value.shape is None else ir.Shape([value.shape[i] for i in inverse(perm)])
    for item in leaving:
        _leave(graph, region, item)
    return True


def _enter(graph: ir.Graph, region: _Region, value: ir.Value) -> None:
    """Let the nodes of the region read `value` turned."""
    source = value.producer()
    if source is not None and permutation(source) == region.perm:
        turned = source.inputs[0]
    else:
        source, turned = None, _transpose(graph, value, inverse(region.perm), fresh_name(graph, f"{value.name}_turned"))
    for reader, index in list(value.uses()):
        if reader in region.nodes:
            reader.replace_input_with(index, turned)
    if source is not None:
        _drop(graph, source)


def _leave(graph: ir.Graph, region: _Region, item: _Leaving) -> None:
    """Give the readers of a turned value what they read before."""
    value = item.value
    if item.wanted:
        ours = [(reader, i) for reader, i in value.uses() if reader in region.nodes or reader in item.undoing]
        name = str(value.name)
        value.name = fresh_name(graph, f"{name}_turned")
        before = _transpose(graph, value, region.perm, name)
        for reader, index in list(value.uses()):
            if (reader, index) not in ours and reader is not before.producer():
                reader.replace_input_with(index, before)
        for index, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[index] = before
    for place, node in enumerate(item.undoing):
        result = node.outputs[0]
        name = str(result.name)
        result.replace_all_uses_with(value, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        if place == 0:
            value.name = name


def _transpose(graph: ir.Graph, value: ir.Value, perm: Perm, name: str) -> ir.Value:
    """Return `value` turned by `perm`, under `name`, by a new node at the end of the graph."""
    shape = None if value.shape is None else ir.Shape([value.shape[i] for i in perm])
    result = ir.Value(name=name, shape=shape, type=value.type)
    graph.append(ir.node("Transpose", [value], {"perm": list(perm)}, outputs=[result], name=f"{name}_transpose"))
    return result


def _grown(transpose: ir.Node, perm: Perm) -> _Region:
    """Return all that hangs together behind `transpose` and can be turned."""
    found: dict[ir.Node, None] = {}
    waiting = [reader for reader, _ in transpose.outputs[0].uses()]
    while waiting:
        node = waiting.pop()
        if node in found or not _is_movable(node, perm):
            continue
        found[node] = None
        waiting += [source for v in _operands(node) if (source := v.producer()) is not None]
        if not _ends(node):
            waiting += [reader for v in node.outputs for reader, _ in v.uses()]
    return _Region(perm, found)


def _operands(node: ir.Node) -> list[ir.Value]:
    """Return what is turned of that which a movable node reads."""
    read = node.inputs if node.op_type in (*ELEMENTWISE, "Concat") else node.inputs[:1]
    return [v for v in read if v is not None and not is_constant(v) and dims(v) != ()]


def _ends(node: ir.Node) -> bool:
    """Whether the result of a movable node is the same however its operand is turned: axes were reduced away."""
    return node.op_type in REDUCTION and not attribute(node, "keepdims", 1)


def _is_movable(node: ir.Node, perm: Perm) -> bool:
    """Whether what `node` computes can be computed of its operands turned by `perm`."""
    rank = len(perm)
    if node.domain != "" or node.op_type not in (*ELEMENTWISE, *_MOVABLE):
        return False
    ranks = [len(dims(v) or ()) if dims(v) is not None else None for v in _operands(node)]
    if not ranks or any(r != rank for r in ranks):
        return False
    if node.op_type in (*ELEMENTWISE, "Concat"):
        return all(len(dims(v) or ()) <= rank for v in node.inputs if is_constant(v))
    if node.op_type in REDUCTION:
        axes = _axes(node)
        if not axes:
            return False
        left = [perm[axis] for axis in range(rank) if axis not in {a % rank for a in axes}]
        return not _ends(node) or left == sorted(left)
    if node.op_type == "Pad":
        pads = constant(node.inputs[1])
        return pads is not None and pads.size == 2 * rank and (len(node.inputs) < 4 or node.inputs[3] is None)
    return node.op_type != "Slice" or (len(node.inputs) > 3 and constant(node.inputs[3]) is not None)


def _axes(node: ir.Node) -> tuple[int, ...]:
    """Return the axes that a reduction names in its attribute or as a constant, () where it names none."""
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return tuple(int(a) for a in given.reshape(-1)) if given is not None else tuple(attribute(node, "axes", ()))


def _turn_constants(graph: ir.Graph, node: ir.Node, perm: Perm) -> None:
    """[C] beside [N, H, W, C] -> [C, 1, 1] beside [N, C, H, W]."""
    for index, value in enumerate(node.inputs):
        array = constant(value)
        if array is None or array.size == 1:
            continue
        turned = array.reshape((1,) * (len(perm) - array.ndim) + array.shape).transpose(inverse(perm))
        while node.op_type != "Concat" and turned.shape[0] == 1 and turned.ndim > 1:
            turned = turned[0]
        _set_constant(graph, node, index, turned)


def _turn_axis(default: int) -> Callable[[ir.Graph, ir.Node, Perm], None]:
    """Return what moves the attribute `axis` of a node, and turns its constants."""

    def turn(graph: ir.Graph, node: ir.Node, perm: Perm) -> None:
        if node.op_type == "Concat":
            _turn_constants(graph, node, perm)
        node.attributes["axis"] = ir.AttrInt64("axis", perm[attribute(node, "axis", default) % len(perm)])

    return turn


def _turn_axes(graph: ir.Graph, node: ir.Node, perm: Perm) -> None:
    axes = [perm[axis % len(perm)] for axis in _axes(node)]
    if "axes" in node.attributes:
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
    else:
        _set_constant(graph, node, 1, np.array(axes, np.int64))


def _turn_slice(graph: ir.Graph, node: ir.Node, perm: Perm) -> None:
    axes = constant(node.inputs[3])
    assert axes is not None
    _set_constant(graph, node, 3, np.array([perm[int(axis) % len(perm)] for axis in axes.reshape(-1)], np.int64))


def _turn_pads(graph: ir.Graph, node: ir.Node, perm: Perm) -> None:
    pads = constant(node.inputs[1])
    assert pads is not None
    _set_constant(graph, node, 1, pads.reshape(2, -1)[:, list(inverse(perm))].reshape(-1))


def _set_constant(graph: ir.Graph, node: ir.Node, index: int, array: np.ndarray) -> None:
    """Give `node` its own constant at `index`; it keeps its name where no other node reads it."""
    current = node.inputs[index]
    assert current is not None
    if len(current.uses()) == 1 and not current.is_graph_output():
        current.const_value = ir.tensor(np.array(array, order="C"), name=current.name)
        current.shape = ir.Shape(array.shape)
    else:
        node.replace_input_with(index, add_initializer(graph, str(current.name), array))


_MOVABLE: dict[str, Callable[[ir.Graph, ir.Node, Perm], None]] = {
    **dict.fromkeys(REDUCTION, _turn_axes),
    "Concat": _turn_axis(0),
    "LogSoftmax": _turn_axis(-1),
    "Pad": _turn_pads,
    "Slice": _turn_slice,
    "Softmax": _turn_axis(-1),
    "Split": _turn_axis(0),
}
"""Operators that name the axes that they work on, and how they are told others; those of ELEMENTWISE name none."""
