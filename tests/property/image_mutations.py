"""What exporters do to the image: its open dimensions written as negative ones, its channels put last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import onnx
from onnx import helper, numpy_helper


def dimension_negative(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """Dimensions of inputs, outputs and inner values become -1, as some exporters write open ones."""
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    dims = [dim for value in values for dim in value.type.tensor_type.shape.dim]
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    for dim in [batch, *random.sample(dims, random.randint(0, min(4, len(dims))))]:
        dim.dim_value = random.choice((-1, -1, -1, -2, 0))
    return model.SerializeToString()


def channels_last(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """The image has its channels last: a Transpose, maybe behind arithmetic, maybe two of them, maybe a wrong one."""
    dims = [onnx.TensorShapeProto.Dimension.FromString(d.SerializeToString()) for d in _image_dims(model)]
    order = random.choice(([0, 3, 1, 2],) * 4 + ([0, 2, 3, 1], [0, 3, 2, 1], [1, 2, 3, 0]))
    for axis, dim in zip(order, dims, strict=True):
        _image_dims(model)[axis].CopyFrom(dim)
    nodes, last = [], "image"
    for number in range(random.choice((0, 0, 1, 2))):
        factor = np.array(random.choice(([0.5], [1 / 255], [0.2, 0.3, 0.4])), np.float32)
        model.graph.initializer.append(numpy_helper.from_array(factor, f"factor_{number}"))
        nodes.append(helper.make_node(random.choice(("Mul", "Sub", "Add")), [last, f"factor_{number}"], [f"scaled_{number}"]))
        last = f"scaled_{number}"
    nodes.append(helper.make_node("Transpose", [last], ["front"], perm=order))
    if random.random() < 0.2:
        nodes[-1].output[0] = "once"
        nodes.append(helper.make_node("Identity", ["once"], ["front"]))
    in_front(model, nodes)
    return model.SerializeToString()


def _image_dims(model: onnx.ModelProto) -> Sequence[onnx.TensorShapeProto.Dimension]:
    return model.graph.input[0].type.tensor_type.shape.dim


def in_front(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Put nodes between the image and its readers; they yield `front`."""
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == "image":
                node.input[i] = "front"
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
