"""Damaged and hostile model files, each made from a number: write(17, folder) gives the same files every time.

MUTATIONS lists what can be done to a sound model. Most damage it; some leave a file that is still right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper
from property.base_models import base_models
from property.endless_graphs import cyclic, nested
from property.image_mutations import channels_last, dimension_negative

INT32_MAX, INT64_MAX = 2**31 - 1, 2**63 - 1
EXTREMES = (0, -1, 1, 2, 7, INT32_MAX, INT32_MAX + 1, 2**40, INT64_MAX, -INT64_MAX - 1)
HUGE = (2**20, 2**31, 2**40, INT64_MAX)

Mutation = Callable[[Random, onnx.ModelProto, Path], bytes]


def write(seed: int, folder: Path) -> tuple[Path, str]:
    """Write mutated file number `seed` (and what belongs beside it) to `folder`; return its path and what was done."""
    random = Random(seed)
    mutation = MUTATIONS[seed % len(MUTATIONS)]
    name, model = random.choice(list(base_models().items()))
    path = folder / "model.onnx"
    path.write_bytes(mutation(random, model, folder))
    return path, f"{mutation.__name__} of {name}"


# -- the file as bytes


def bytes_changed(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """One to six bytes flipped, overwritten, taken out or put in."""
    data = bytearray(model.SerializeToString())
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        position, kind = random.randrange(len(data)), random.randrange(4)
        if kind == 0:
            data[position] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[position] = random.randrange(256)
        elif kind == 2:
            del data[position : position + random.randrange(1, 9)]
        else:
            data[position:position] = random.randbytes(random.randrange(1, 5))
    return bytes(data)


def truncated(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """The beginning of the file."""
    data = model.SerializeToString()
    return data[: random.randrange(len(data))]


# -- any field of the message


def field_dropped(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """One to three fields, or one entry of a list, left out."""
    for _ in range(random.choice((1, 1, 2, 3))):
        message, field = random.choice(list(_fields(model)))
        if _is_list(message, field) and random.random() < 0.7:
            del getattr(message, field)[random.randrange(len(getattr(message, field)))]
        else:
            message.ClearField(field)
    return model.SerializeToString()


def number_changed(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """An integer anywhere (dimension, attribute, type, version) becomes an extreme one."""
    places = [(m, f) for m, f in _fields(model) if _has_type(m, f, int)]
    for _ in range(random.choice((1, 1, 2))):
        _set(random, *random.choice(places), EXTREMES)
    return model.SerializeToString()


def name_changed(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """A text anywhere becomes another text of the file, nothing, or odd."""
    places = [(m, f) for m, f in _fields(model) if _has_type(m, f, str)]
    texts = [text for m, f in places for text in (getattr(m, f) if _is_list(m, f) else [getattr(m, f)])]
    _set(random, *random.choice(places), (random.choice(texts), random.choice(texts), "", "a/b\n'c'", "x" * 10000))
    return model.SerializeToString()


def entry_doubled(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """An entry of a list twice: duplicate names, nodes, inputs, dimensions."""
    lists = [getattr(m, f) for m, f in _fields(model) if _is_list(m, f)]
    for _ in range(random.choice((1, 1, 3))):
        entries = random.choice(lists)
        entries.extend([entries[random.randrange(len(entries))]])
    return model.SerializeToString()


def operator_changed(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """A node becomes another operator of the same operands and attributes."""
    every = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
    common = ("Add", "Concat", "Relu", "Reshape", "Conv", "MatMul", "MaxPool", "Resize", "Slice", "Squeeze", "Expand", "Gather")
    node = random.choice(list(model.graph.node))
    node.op_type = random.choice(every if random.random() < 0.4 else common)
    if random.random() < 0.5:
        del node.attribute[:]
    return model.SerializeToString()


# -- shapes and numbers that contradict each other, or are too large


def shape_contradicted(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """Another size than the nodes compute: of the image, an output or a weight, whose data then is as large as said."""
    tensors = [t for t in _tensors(model) if t.dims]
    kind = random.randrange(3)
    if kind == 0 and tensors:
        tensor = random.choice(tensors)
        array = np.array(numpy_helper.to_array(tensor))
        axis = random.randrange(array.ndim)
        changed = np.concatenate([array, array], axis) if random.random() < 0.5 else np.expand_dims(array, axis)
        tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
        return model.SerializeToString()
    value = random.choice([model.graph.input[0], *model.graph.output])
    dims = value.type.tensor_type.shape.dim
    if dims and random.random() < 0.7:
        random.choice(list(dims)).dim_value = random.choice((1, 2, 3, 5, 64))
    elif random.random() < 0.5:
        dims.add().dim_value = 3
    else:
        value.type.tensor_type.ClearField("shape")
    return model.SerializeToString()


def huge_dimension(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """A dimension of the image, an output or a stored tensor beyond any memory."""
    value = random.choice([model.graph.input[0], model.graph.input[0], *model.graph.output])
    dims = value.type.tensor_type.shape.dim
    if dims and random.random() < 0.7:
        for _ in range(random.randint(1, 2)):
            random.choice(list(dims)).dim_value = random.choice(HUGE)
    else:
        tensor = random.choice([t for t in _tensors(model) if t.dims])
        tensor.dims[random.randrange(len(tensor.dims))] = random.choice(HUGE)
    return model.SerializeToString()


def huge_value(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """An operator that makes a value of terabytes out of a few bytes, from constants or from the image."""
    size = random.choice(HUGE)
    graph = model.graph
    image, node = graph.input[0].name, random.choice(list(graph.node))

    def constant(array: object, dtype: type = np.int64) -> str:
        name = f"huge_{len(graph.initializer)}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    source = random.choice([image, constant(np.zeros((1, 1, 1, 1)), np.float32), node.output[0]])
    made = {
        "ConstantOfShape": lambda: helper.make_node("ConstantOfShape", [constant([size, random.choice((1, size))])], ["huge"]),
        "Range": lambda: helper.make_node("Range", [constant(0), constant(size), constant(1)], ["huge"]),
        "Expand": lambda: helper.make_node("Expand", [source, constant([1, 1, size, random.choice((1, size))])], ["huge"]),
        "Tile": lambda: helper.make_node("Tile", [source, constant([1, 1, size, 1])], ["huge"]),
        "Pad": lambda: helper.make_node("Pad", [source, constant([0, 0, 0, 0, 0, 0, size, 0])], ["huge"]),
        "Resize": lambda: helper.make_node("Resize", [source, "", constant([1, 1, float(size), 1], np.float32)], ["huge"]),
        "OneHot": lambda: helper.make_node("OneHot", [constant([0]), constant(size), constant([0, 1], np.float32)], ["huge"]),
        "Upsample": lambda: helper.make_node("Upsample", [source, constant([1, 1, float(size), 1], np.float32)], ["huge"]),
        "ConvTranspose": lambda: helper.make_node(
            "ConvTranspose", [image, constant(np.ones((_channels(model), 1, 1, 1)), np.float32)], ["huge"], strides=[size, 1]
        ),
        "DepthToSpace": lambda: helper.make_node("DepthToSpace", [source], ["huge"], blocksize=min(size, INT32_MAX)),
        "Unsqueeze": lambda: helper.make_node("Unsqueeze", [source, constant(list(range(4, 4 + 200)))], ["huge"]),
    }
    maker = made[random.choice(list(made))]()
    index = list(graph.node).index(node)
    position = index + 1 if source == node.output[0] else 0
    readers = [n for n in list(graph.node)[position:] if n.input and n.op_type != "Constant"]
    graph.node.insert(position, maker)
    if readers and random.random() < 0.8:
        random.choice(readers).input[0] = "huge"
    else:
        graph.output.append(onnx.ValueInfoProto(name="huge", type=graph.output[0].type))
    return model.SerializeToString()


def odd_numbers(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """NaN, infinite, enormous, tiny or all equal weights; or none at all."""
    tensors = [t for t in _tensors(model) if t.data_type == TensorProto.FLOAT and t.dims]
    for tensor in random.sample(tensors, random.randint(1, min(3, len(tensors)))):
        array = np.array(numpy_helper.to_array(tensor))
        kind = random.randrange(6)
        if kind == 0:
            array.flat[random.randrange(array.size)] = random.choice((np.nan, np.inf, -np.inf))
        elif kind == 5:
            array = np.zeros([0 if axis == random.randrange(array.ndim) else d for axis, d in enumerate(array.shape)], np.float32)
        else:
            array[...] = {1: 0.0, 2: 3e38, 3: 1e-42, 4: random.choice((1.0, -1.0, 1e12, 1e-12))}[kind]
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model.SerializeToString()


# -- data beside the file


def external(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """A weight in another file: in its place, or outside, absolute, linked, missing, at impossible offsets and lengths."""
    tensors = [t for t in _tensors(model) if t.dims and t.raw_data]
    tensor = random.choice(tensors)
    data, size = bytes(tensor.raw_data), len(tensor.raw_data)
    (folder / "weights.bin").write_bytes(data)
    outside = folder.parent / f"outside_{folder.name}.bin"
    outside.write_bytes(data)
    (folder / "link.bin").symlink_to(outside)
    (folder / "loop.bin").symlink_to(folder / "loop.bin")
    places = [
        "weights.bin",
        f"../{outside.name}",
        str(outside),
        "/etc/passwd",
        "/dev/zero",
        "link.bin",
        "loop.bin",
        "missing.bin",
    ]
    places += [".", "", "sub/../../" + outside.name, "weights.bin\0.txt", "w" * 300]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": random.choice(["weights.bin"] * len(places) + places)}
    entries["offset"] = str(random.choice((0, 0, 0, 4, -4, size, INT64_MAX, 10**30, "zero")))
    entries["length"] = str(random.choice((size, size, size, size - 4, -1, 0, INT64_MAX, 10**30, "")))
    for key, text in entries.items():
        if random.random() < 0.9:
            tensor.external_data.add(key=key, value=text)
    return model.SerializeToString()


MUTATIONS: tuple[Mutation, ...] = (
    bytes_changed,
    truncated,
    field_dropped,
    number_changed,
    name_changed,
    entry_doubled,
    operator_changed,
    shape_contradicted,
    huge_dimension,
    huge_value,
    odd_numbers,
    dimension_negative,
    channels_last,
    cyclic,
    nested,
    external,
)


# -- helpers


def _fields(message: Message) -> Iterator[tuple[Message, str]]:
    """Every set field of a message and of the messages in it."""
    for field, content in message.ListFields():
        yield message, field.name
        for part in content if _is_list(message, field.name) else [content]:
            if isinstance(part, Message):
                yield from _fields(part)


def _is_list(message: Message, field: str) -> bool:
    return not isinstance(getattr(message, field), (Message, str, bytes, int, float))


def _has_type(message: Message, field: str, kind: type) -> bool:
    content = getattr(message, field)
    return isinstance(content[0] if _is_list(message, field) else content, kind)


def _set(random: Random, message: Message, field: str, options: tuple[int, ...] | tuple[str, ...]) -> None:
    """Give a field, or one of its entries, one of the options; one that fits the type (32 or 64 bits)."""
    for option in random.sample(options, len(options)):
        try:
            if _is_list(message, field):
                entries = getattr(message, field)
                entries[random.randrange(len(entries))] = option
            else:
                setattr(message, field, option)
        except ValueError:
            continue
        return


def _tensors(model: onnx.ModelProto) -> list[TensorProto]:
    return [*model.graph.initializer, *(a.t for n in model.graph.node for a in n.attribute if a.HasField("t"))]


def _channels(model: onnx.ModelProto) -> int:
    return int(model.graph.input[0].type.tensor_type.shape.dim[1].dim_value)
