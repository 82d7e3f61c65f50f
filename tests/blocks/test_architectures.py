"""The blocks of known architectures come out as their authors drew them, from the shape of the graph alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from blocks.listing import layers, ops, squeeze_excite
from graphs import Net

from genie_onnx.blocks import partition
from genie_onnx.blocks.block import violations
from genie_onnx.blocks.partition import by_structure
from genie_onnx.graph import fold_batchnorm, load, normalise


def test_bottlenecks_with_projection_stem_and_classifier():
    net = Net()
    y = net.maxpool(net.conv("stem", "x", 8, k=7, stride=2))
    for name, stride in (("a", 1), ("b", 2)):
        branch = net.conv(f"{name}2", net.conv(f"{name}1", y, 4), 4, k=3, stride=stride)
        skip = net.conv(f"{name}p", y, 16, stride=stride, act="") if name == "a" or stride == 2 else y
        y = net.op("Relu", net.op("Add", net.conv(f"{name}3", branch, 16, act=""), skip), name=f"{name}out")
    model = net.model(net.gemm("fc", net.op("GlobalAveragePool", y), 10))
    assert layers(model) == ["chain: stem", "core: a1 a2 ap a3", "core: b1 b2 bp b3", "chain: fc"]
    stem, a, b, fc = partition(model)
    assert ops(model, stem) == ["Conv", "Relu", "MaxPool"]
    assert a.outputs == ("aout",) == b.inputs, "a block's output is taken behind the activation of its Add"
    assert ops(model, fc) == ["GlobalAveragePool", "Flatten", "Gemm"], "pooling belongs to the classifier, not to the last block"


def test_shortcut_by_slice_and_pad_is_inside_its_block():
    net = Net(channels=4)
    stem = net.conv("stem", "x", 4, k=3)
    branch = net.conv("c2", net.conv("c1", stem, 8, k=3, stride=2), 8, k=3, act="")
    limits = [net.constant(n, v, "int64") for n, v in (("start", [0, 0]), ("end", [99, 99]), ("axes", [2, 3]), ("step", [2, 2]))]
    sliced = net.op("Slice", stem, *limits)
    padded = net.op("Pad", sliced, net.constant("pads", [0, 2, 0, 0, 0, 2, 0, 0], "int64"), channels=8)
    out = net.op("Relu", net.op("Add", branch, padded))
    model = net.model(net.conv("head", out, 2))
    assert layers(model) == ["chain: stem", "core: c1 c2", "chain: head"]
    assert ops(model, partition(model)[1]) == ["Conv", "Relu", "Conv", "Slice", "Pad", "Add", "Relu"]


def inverted_residual(net: Net, name: str, x: str, out: int, stride: int = 1, act: str = "Clip", gate: bool = False) -> str:
    y = net.conv(f"{name}.expand", x, 16, act=act)
    y = net.conv(f"{name}.dw", y, 16, k=3, stride=stride, depthwise=True, act=act)
    if gate:
        y = squeeze_excite(net, name, y)
    y = net.conv(f"{name}.project", y, out, act="")
    return net.op("Add", x, y) if net.channels[x] == out and stride == 1 else y


def test_inverted_residuals():
    net = Net()
    y = net.conv("stem", "x", 8, k=3, stride=2, act="Clip")
    y = net.conv("pw", net.conv("dw", y, 8, k=3, depthwise=True, act="Clip"), 8, act="")
    y = inverted_residual(net, "a", y, 12, stride=2)
    y = inverted_residual(net, "b", y, 12)
    y = inverted_residual(net, "c", y, 16)
    y = net.gemm("fc", net.op("GlobalAveragePool", net.conv("top", y, 32, act="Clip")), 10)
    assert layers(net.model(y)) == [
        "chain: stem dw pw",
        "chain: a.expand a.dw a.project",
        "core: b.expand b.dw b.project",
        "chain: c.expand c.dw c.project",
        "chain: top fc",
    ]


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "ReduceMean"])
def test_squeeze_excite_is_part_of_its_block(pool: str):
    net = Net()
    y = net.conv("stem", "x", 8, k=3, stride=2, act="HardSwish")
    y = squeeze_excite(net, "a", net.conv("a.dw", y, 8, k=3, depthwise=True), pool)
    y = net.conv("a.pw", y, 8, act="")
    y = inverted_residual(net, "b", y, 8, act="HardSwish", gate=True)
    y = inverted_residual(net, "c", y, 12, stride=2, act="HardSwish", gate=True)
    y = net.op("HardSwish", net.gemm("fc1", net.op("GlobalAveragePool", net.conv("top", y, 24, act="HardSwish")), 20))
    assert layers(net.model(net.gemm("fc2", y, 10))) == [
        "gated: stem a.dw a.se1 a.se2 a.pw",
        "core: b.expand b.dw b.se1 b.se2 b.project",
        "gated: c.expand c.dw c.se1 c.se2 c.project",
        "chain: top fc1",
        "chain: fc2",
    ]


def test_swish_written_as_two_operators_is_an_activation():
    net = Net()
    y = "x"
    for name, stride in (("a", 1), ("b", 2)):
        y = net.conv(name, y, 8, k=3, stride=stride, act="")
        y = net.op("Mul", y, net.op("Sigmoid", y), name=f"{name}.swish")
    model = net.model(net.conv("c", y, 4, act=""))
    assert layers(model) == ["chain: a b", "chain: c"]
    assert partition(model)[0].outputs == ("b.swish",)


def test_separable_convolutions_in_either_order():
    net = Net()
    y = net.conv("stem", "x", 8, k=3, stride=2)
    for i in range(2):
        y = net.conv(f"pw{i}", net.conv(f"dw{i}", y, 8, k=3, depthwise=True), 8)
    assert layers(net.model(y)) == ["chain: stem dw0 pw0", "chain: dw1 pw1"]

    net = Net()
    y = net.conv("stem", "x", 8, k=3, stride=2)
    for i in range(2):
        y = net.conv(f"dw{i}", net.conv(f"pw{i}", y, 8, act=""), 8, k=3, depthwise=True)
    assert layers(net.model(y)) == ["chain: stem", "chain: pw0 dw0", "chain: pw1 dw1"]


def shuffle(net: Net, x: str, size: int) -> str:
    c = net.channels[x]
    y = net.op("Reshape", x, net.constant(f"{x}.split", [0, 2, c // 2, size, size], "int64"))
    y = net.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    return net.op("Reshape", y, net.constant(f"{x}.join", [0, c, size, size], "int64"), name=f"{x}.shuffled")


def test_shuffle_units_with_their_shuffle():
    net = Net(channels=8, size=16)

    def branch(name: str, x: str, stride: int = 1) -> str:
        y = net.conv(f"{name}.1", x, 8)
        return net.conv(f"{name}.3", net.conv(f"{name}.2", y, 8, k=3, stride=stride, depthwise=True, act=""), 8)

    left = net.conv("down.5", net.conv("down.4", "x", 8, k=3, stride=2, depthwise=True, act=""), 8)
    y = shuffle(net, net.concat(left, branch("down", "x", 2), name="u0"), 8)
    for i in (1, 2):
        keep, work = net.op("Split", y, outputs=2, channels=8, axis=1)
        y = shuffle(net, net.concat(keep, branch(f"unit{i}", work), name=f"u{i}"), 8)
    model = net.model(net.gemm("fc", net.op("GlobalAveragePool", net.conv("conv5", y, 16)), 4))
    assert layers(model)[:3] == [
        "core: down.4 down.5 down.1 down.2 down.3",
        "core: unit1.1 unit1.2 unit1.3",
        "core: unit2.1 unit2.2 unit2.3 conv5",
    ]
    assert [b.outputs for b in partition(model)[:2]] == [("u0.shuffled",), ("u1.shuffled",)]


def test_fire_modules():
    net = Net()
    y = net.maxpool(net.conv("stem", "x", 8, k=3, stride=2))
    for name in "ab":
        squeezed = net.conv(f"{name}.squeeze", y, 4)
        y = net.concat(net.conv(f"{name}.e1", squeezed, 8), net.conv(f"{name}.e3", squeezed, 8, k=3))
    model = net.model(net.op("GlobalAveragePool", net.conv("last", y, 10)))
    assert layers(model) == ["chain: stem", "core: a.squeeze a.e1 a.e3", "core: b.squeeze b.e1 b.e3 last", "float:"]


def test_inception_module():
    net = Net()
    y = net.conv("stem", "x", 8, k=3)
    for i in range(2):
        y = net.concat(
            net.conv(f"{i}.a", y, 4),
            net.conv(f"{i}.b2", net.conv(f"{i}.b1", y, 4), 4, k=3),
            net.conv(f"{i}.c2", net.conv(f"{i}.c1", y, 4), 4, k=5),
            net.conv(f"{i}.d", net.maxpool(y, k=3, stride=1), 4),
        )
    model = net.model(net.gemm("fc", net.op("GlobalAveragePool", y), 4))
    assert layers(model) == ["chain: stem", "core: 0.a 0.b1 0.b2 0.c1 0.c2 0.d", "core: 1.a 1.b1 1.b2 1.c1 1.c2 1.d", "chain: fc"]


def test_dense_layers_over_all_earlier_ones_are_blocks_of_several_inputs():
    net = Net()
    features = [net.conv("stem", "x", 8, k=3)]
    for i in range(6):
        joined = net.concat(*features) if i else features[0]
        features.append(net.conv(f"{i}.3", net.conv(f"{i}.1", joined, 8), 4, k=3))
    model = net.model(net.gemm("fc", net.op("GlobalAveragePool", net.concat(*features)), 4))
    assert layers(model) == ["chain: stem", *(f"chain: {i}.1 {i}.3" for i in range(6)), "chain: fc"]
    assert [len(b.inputs) for b in partition(model)] == [1, 1, 2, 3, 4, 5, 6, 7]
    assert all(len(b.outputs) == 1 for b in partition(model))


def test_dense_layers_with_growing_concat_are_cores():
    net = Net()
    y = net.conv("stem", "x", 8, k=3)
    for i in range(3):
        y = net.concat(y, net.conv(f"{i}.3", net.conv(f"{i}.1", y, 8), 4, k=3))
    model = net.model(net.gemm("fc", net.op("GlobalAveragePool", y), 4))
    assert layers(model) == ["chain: stem", *(f"core: {i}.1 {i}.3" for i in range(3)), "chain: fc"]


def test_preactivation_residuals():
    net = Net()
    y = net.conv("stem", "x", 8, k=3, act="")
    statistics = [net.constant(f"bn.{s}", [1.0] * 8) for s in ("scale", "bias", "mean", "var")]
    for i in range(2):
        inner = net.op("Relu", net.op("BatchNormalization", y, *statistics))
        y = net.op("Add", y, net.conv(f"{i}.2", net.conv(f"{i}.1", inner, 8, k=3), 8, k=3, act=""))
    model = net.model(net.gemm("fc", net.op("GlobalAveragePool", y), 4))
    assert layers(model) == ["chain: stem", "core: 0.1 0.2", "core: 1.1 1.2", "chain: fc"]


def test_u_net():
    net = Net(size=32)
    skips, y = [], "x"
    for i in range(3):
        y = net.conv(f"down{i}.2", net.conv(f"down{i}.1", y, 8, k=3), 8, k=3)
        skips.append(y)
        y = net.maxpool(y)
    y = net.conv("bottom.2", net.conv("bottom.1", y, 8, k=3), 8, k=3)
    for i in (2, 1, 0):
        y = net.concat(skips[i], net.up(f"up{i}", y, 8))
        y = net.conv(f"up{i}.2", net.conv(f"up{i}.1", y, 8, k=3), 8, k=3)
    model = net.model(net.conv("head", y, 1, act=""))
    assert layers(model) == [
        "chain: down0.1 down0.2",
        "chain: down1.1 down1.2",
        "chain: down2.1 down2.2",
        "core: bottom.1 bottom.2 up2",
        "chain: up2.1 up2.2 up1",
        "chain: up1.1 up1.2 up0",
        "chain: up0.1 up0.2 head",
    ]
    assert [len(b.inputs) for b in partition(model)] == [1, 1, 1, 1, 1, 2, 2]
    assert all(len(b.outputs) == 1 for b in partition(model))


def test_feature_pyramid_with_tied_heads():
    net = Net(size=32)
    c3 = net.conv("c3", "x", 8, k=3, stride=2)
    c4 = net.conv("c4", c3, 8, k=3, stride=2)
    c5 = net.conv("c5", c4, 8, k=3, stride=2)
    scales = net.constant("scales", [1.0, 1.0, 2.0, 2.0])
    p5 = net.conv("l5", c5, 8, act="")
    p4 = net.op("Add", net.conv("l4", c4, 8, act=""), net.op("Resize", p5, "", scales, mode="nearest"), name="p4")
    p3 = net.op("Add", net.conv("l3", c3, 8, act=""), net.op("Resize", p4, "", scales, mode="nearest"), name="p3")
    head = net.constant("head.w", np.ones((4, 8, 3, 3)))
    outputs = [
        net.op("Sigmoid", net.conv(f"head{i}", net.conv(f"s{i}", p, 8, k=3), 4, k=3, act="", weight=head))
        for i, p in ((5, p5), (4, p4), (3, p3))
    ]
    model = net.model(*outputs)
    blocks = {b.name: b for b in partition(model)}
    assert not violations(model, list(blocks.values()))
    assert blocks["l4"].outputs == ("p4",), "a sum that several read belongs to the layer before it"
    assert "l5" in blocks["l4"].inputs
    assert set(blocks["s3"].inputs) == {"p4", "l3"}, "a sum that one reads belongs to the layer behind it"
    assert [blocks[f"s{i}"].weights for i in (5, 4, 3)] == [(f"s{i}.w", "head.w") for i in (5, 4, 3)], "tied, listed by each"
    assert all(len(b.outputs) == 1 for b in blocks.values() if b.weights)
    assert partition(model)[-1].kind == "float", "the Sigmoids of the outputs are nobody's target"


def test_csp_block_with_split():
    net = Net()
    y = net.conv("down", "x", 8, k=3, stride=2)
    keep, work = net.op("Split", net.conv("cv1", y, 8), outputs=2, channels=4, axis=1)
    inner = net.op("Add", work, net.conv("m2", net.conv("m1", work, 4, k=3), 4, k=3))
    y = net.conv("cv2", net.concat(keep, work, inner), 8)
    model = net.model(net.conv("next", y, 4, k=3, stride=2))
    assert layers(model) == ["chain: down", "core: cv1 m1 m2 cv2", "chain: next"]


# Blocks with weights, cores, the largest number of weights in a block, blocks of several inputs.
BENCH = {
    "cifar/resnet20_bn.onnx": (11, 9, 2, 0),
    "cifar/resnet20_folded.onnx": (11, 9, 2, 0),
    "cifar/resnet32_bn.onnx": (17, 15, 2, 0),
    "imagenet/mobilenet_v1_075_224_bn.onnx": (14, 0, 3, 0),
    "zoo/dncnn_sigma25_bn.onnx": (6, 0, 3, 0),
    "zoo/fastestdet_352_bn.onnx": (23, 17, 7, 1),
    "zoo/fastestdet_352_folded.onnx": (23, 17, 7, 1),
    "zoo/lprnet_24x94_bn.onnx": (8, 0, 3, 1),
    "zoo/mlperf_resnet8_bn.onnx": (5, 3, 3, 0),
    "zoo/mlperf_vww_mobilenetv1_025_96_bn.onnx": (14, 0, 3, 0),
    "zoo/pfld.onnx": (16, 10, 3, 0),
    "zoo/portrait_extremec3_224_bn.onnx": (32, 3, 11, 8),
    "zoo/version-RFB-320.onnx": (22, 1, 11, 1),
    "zoo/version-slim-320.onnx": (21, 0, 3, 0),
    "zoo/yolox_nano.onnx": (51, 12, 7, 6),
    "zoo/yunet_n_320_320.onnx": (30, 0, 2, 2),
}


@pytest.mark.parametrize("file", BENCH)
def test_published_models(bench: Path, file: str):
    kept = normalise(load(bench / file))
    folded = fold_batchnorm(kept)
    blocks = partition(folded)
    assert blocks == by_structure(folded), "no fallback"
    weighted = [b for b in blocks if b.weights]
    found = (
        len(weighted),
        sum(b.kind == "core" for b in blocks),
        max(len(b.weights) for b in blocks),
        sum(len(b.inputs) > 1 for b in weighted),
    )
    assert found == BENCH[file]
    assert all(len(b.outputs) == 1 for b in weighted)
    assert [(b.weights, b.outputs) for b in partition(kept)] == [(b.weights, b.outputs) for b in blocks], (
        "BN kept or folded: the same"
    )


# Published ImageNet classifiers of the onnx package (weights synthetic): blocks with weights, cores, most weights in a block.
LIGHT = {
    "densenet121": (59, 58, 3),  # every dense layer; the concatenation grows by one operand at a time in this export
    "inception_v1": (12, 9, 6),
    "resnet50": (18, 16, 4),
    "shufflenet": (18, 16, 3),
    "squeezenet": (9, 8, 4),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "densenet121")) for n in LIGHT])
def test_classifiers_of_the_onnx_package(name: str):
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    blocks = partition(normalise(load(folder / f"light_{name}.onnx")))
    weighted = [b for b in blocks if b.weights]
    assert (len(weighted), sum(b.kind == "core" for b in blocks), max(len(b.weights) for b in blocks)) == LIGHT[name]
    assert all(len(b.inputs) == len(b.outputs) == 1 for b in weighted)
