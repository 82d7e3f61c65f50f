"""Local functions of a file, judged before they are inlined: none may call itself, and together they must stay of a sane size.

A function of two nodes that calls the next one twice is 2^60 nodes after sixty such functions. The inliner would make them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

import onnx

MAX_NODES = 2**17  # after inlining; torch's exporter writes some ten thousand for the largest networks

_Key = tuple[str, str, str]  # domain, name, overload


def function_problem(proto: onnx.ModelProto) -> str | None:
    """Return a sentence where the functions of `proto` cannot be inlined; None where they can, or there are none."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    calls = {key: [_key(node) for node in _nodes(function.node)] for key, function in functions.items()}
    known = {key: [called for called in called_keys if called in functions] for key, called_keys in calls.items()}
    sizes: dict[_Key, int] = {}
    try:
        for key in TopologicalSorter(known).static_order():
            sizes[key] = sum(sizes.get(called, 1) for called in calls[key])
    except CycleError as error:
        names = " -> ".join(f"'{key[1]}'" for key in error.args[1])
        return f"its functions call each other in a circle ({names}); export the model again."
    total = sum(sizes.get(_key(node), 1) for node in _nodes(proto.graph.node))
    if functions and total > MAX_NODES:
        return f"it has {total:.3g} nodes once its functions are inlined; at most {MAX_NODES} are supported."
    return None


def _key(node: onnx.NodeProto) -> _Key:
    return node.domain, node.op_type, node.overload


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield `nodes` and those in their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)
