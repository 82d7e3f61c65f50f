"""Mutations of a model into one that does not end, or not soon: circles, and graphs within graphs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import onnx
from onnx import helper, numpy_helper
from property.image_mutations import in_front


def cyclic(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """A node reads what is computed from its own result; functions that call themselves."""
    if model.functions and random.random() < 0.7:
        caller, called = random.choice(list(model.functions)), random.choice(list(model.functions))
        node = random.choice(list(called.node))
        inputs = (list(node.input) * 2)[: len(caller.input)]
        node.CopyFrom(helper.make_node(caller.name, inputs, node.output[:1], domain=caller.domain))
        if not any(entry.domain == caller.domain for entry in called.opset_import):
            called.opset_import.append(helper.make_opsetid(caller.domain, 1))
        return model.SerializeToString()
    nodes = [n for n in model.graph.node if n.input]
    first = random.randrange(len(nodes))
    last = random.randrange(first, len(nodes))
    nodes[first].input[random.randrange(len(nodes[first].input))] = nodes[last].output[0]
    return model.SerializeToString()


def nested(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """Branches within branches, functions that each call the next twice, or a chain of hundreds of nodes."""
    kind = random.randrange(3)
    if kind == 0:
        body = helper.make_graph([helper.make_node("Relu", ["image"], ["r0"])], "b", [], [onnx.ValueInfoProto(name="r0")])
        depth = random.choice((3, 20, 30))  # protobuf itself takes no more than a hundred messages in one another
        for level in range(depth):
            branch = helper.make_node("If", ["flag"], [f"r{level + 1}"], then_branch=body, else_branch=onnx.GraphProto(name="e"))
            body = helper.make_graph([branch], "b", [], [onnx.ValueInfoProto(name=f"r{level + 1}")])
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
        model.graph.node.extend(body.node)
        model.graph.output.append(onnx.ValueInfoProto(name=f"r{depth}"))
    elif kind == 1:
        depth = random.choice((4, 30, 60))
        for level in range(depth):
            callee = [("Relu", "")] * 2 if level == depth - 1 else [(f"F{level + 1}", "laughs")] * 2
            nodes = [helper.make_node(callee[i][0], ["xab"[i]], ["aby"[i]], domain=callee[i][1]) for i in range(2)]
            nodes[1].output[0] = "y"
            nodes[1].input[0] = "a"
            opsets = [helper.make_opsetid("", 13), helper.make_opsetid("laughs", 1)]
            model.functions.append(helper.make_function("laughs", f"F{level}", ["x"], ["y"], nodes, opsets))
        model.opset_import.append(helper.make_opsetid("laughs", 1))
        in_front(model, [helper.make_node("F0", ["image"], ["front"], domain="laughs")])
    else:
        count = random.choice((20, 100, 300))
        names = ["image", *(f"c{i}" for i in range(count - 1)), "front"]
        op = random.choice(("Relu", "Identity", "Neg"))
        in_front(model, [helper.make_node(op, [a], [b]) for a, b in pairwise(names)])
    return model.SerializeToString()
