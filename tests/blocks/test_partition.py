"""Where a graph is cut into blocks: chains, cores, last layers, arithmetic on shapes, and graphs that cannot be cut."""

from __future__ import annotations

from blocks.listing import layers, ops, squeeze_excite
from graphs import Net, raw_graph

from genie_onnx.blocks import partition
from genie_onnx.blocks.block import violations
from genie_onnx.blocks.partition import by_layer, by_structure, doubtful, merge
from genie_onnx.graph.infer_shapes import infer_shapes


def test_long_chains_are_cut_in_threes_and_linear_layers_stand_alone():
    net = Net()
    y = "x"
    for i in range(5):
        y = net.conv(f"c{i}", y, 8, k=3)
    y = net.op("Relu", net.gemm("fc1", net.op("GlobalAveragePool", y), 8))
    assert layers(net.model(net.gemm("fc2", y, 4))) == ["chain: c0 c1 c2", "chain: c3 c4", "chain: fc1", "chain: fc2"]


def test_a_1x1_behind_a_spatial_convolution_closes_its_block():
    net = Net()
    y = "x"
    for i in range(2):
        y = net.conv(f"{i}c", net.conv(f"{i}b", net.conv(f"{i}a", y, 4), 4, k=3), 8)
    y = net.conv("g", net.conv("f", net.conv("e", net.conv("d", y, 4, k=3), 4), 4, k=3), 4)
    assert layers(net.model(y)) == ["chain: 0a 0b 0c", "chain: 1a 1b 1c", "chain: d e", "chain: f g"]


def test_six_weights_are_enough_for_a_chain():
    net = Net()
    y = net.conv("stem", "x", 8, k=3)
    for i in range(3):
        y = squeeze_excite(net, str(i), net.conv(f"{i}.dw", y, 8, k=3, depthwise=True))
    assert layers(net.model(y)) == ["gated: stem 0.dw 0.se1 0.se2 1.dw 1.se1 1.se2", "gated: 2.dw 2.se1 2.se2"]


def test_a_linear_layer_keeps_its_flattening_and_takes_a_1x1_only_over_a_pooling():
    net = Net(size=1)
    model = net.model(net.gemm("fc", net.conv("top", "x", 8), 4))
    assert layers(model) == ["chain: top", "chain: fc"]
    assert ops(model, partition(model)[1]) == ["Flatten", "Gemm"], (
        "flattened, the target of the convolution would lose its channels"
    )


def test_1x1_before_a_concat_core():
    """It joins the core also where it could close the block before, but not where it completes a separable convolution."""

    def core(net: Net, x: str) -> str:
        return net.concat(net.conv("e1", x, 4), net.conv("e3", x, 4, k=3))

    net = Net()
    assert layers(net.model(core(net, net.conv("squeeze", net.conv("stem", "x", 8, k=3), 4)))) == [
        "chain: stem squeeze",  # no core: only the output is behind the Concat, so e1 and e3 are heads
        "chain: e1",
        "chain: e3",
        "float:",
    ]
    net = Net()
    y = net.conv("last", core(net, net.conv("squeeze", net.conv("stem", "x", 8, k=3), 4)), 4, k=3)
    assert layers(net.model(y)) == ["chain: stem", "core: squeeze e1 e3", "chain: last"]
    net = Net()
    y = net.conv("pw", net.conv("dw", net.conv("stem", "x", 8, k=3, stride=2), 8, k=3, depthwise=True), 4)
    y = net.conv("last", core(net, y), 4, k=3)
    assert layers(net.model(y)) == ["chain: stem dw pw", "core: e1 e3", "chain: last"]


def test_a_reader_far_away_does_not_hide_a_block():
    net = Net()
    tapped = net.conv("stem", "x", 8, k=3)
    y = net.op("Add", net.conv("b", net.conv("a", tapped, 8, k=3), 8, k=3, act=""), tapped)
    for i in range(12):
        y = net.conv(f"c{i}", y, 8, k=3)
    y = net.conv("last", net.concat(y, tapped), 4, k=3)
    assert layers(net.model(y)) == [
        "chain: stem",
        "core: a b",
        *(f"chain: c{i} c{i + 1} c{i + 2}" for i in (0, 3, 6, 9)),
        "chain: last",
    ]


def test_downsampling_ends_a_block_but_a_mobile_stem_does_not():
    net = Net()
    y = net.conv("d", net.conv("c", net.conv("b", net.conv("a", "x", 4), 4, k=3, stride=2), 4), 4, k=3, stride=2)
    assert layers(net.model(y)) == ["chain: a b", "chain: c d"]


def test_softmax_and_decoding_are_left_out_of_the_last_blocks():
    net = Net()
    y = net.conv("stem", "x", 8, k=3)
    scores = net.op("Softmax", net.conv("score", y, 2, act=""), axis=1)
    boxes = net.op("Exp", net.conv("box", y, 4, act="LeakyRelu"))
    model = net.model(net.concat(scores, boxes))
    assert layers(model) == ["chain: stem", "chain: score", "chain: box", "float:"]
    blocks = partition(model)
    assert blocks[1].outputs == ("score",)
    assert ops(model, blocks[2]) == ["Conv", "LeakyRelu"]
    assert ops(model, blocks[3]) == ["Softmax", "Exp", "Concat"]


def test_batchnorm_of_a_last_layer_belongs_to_it():
    net = Net()
    statistics = [net.constant(f"bn.{s}", [1.0] * 4) for s in ("scale", "bias", "mean", "var")]
    y = net.op("BatchNormalization", net.conv("score", "x", 4, act=""), *statistics, name="bn")
    model = net.model(net.op("Softmax", y, axis=1))
    assert [b.outputs for b in partition(model)] == [("bn",), ("Softmax_2",)]


def test_an_inner_value_that_is_an_output_ends_its_block():
    net = Net()
    a = net.conv("a", "x", 8, k=3)
    assert layers(net.model(a, net.conv("b", a, 4, k=3))) == ["chain: a", "chain: b"]


def test_shape_arithmetic_goes_to_the_block_that_uses_it():
    model = raw_graph("""
        agraph (float[N,3,H,W] x, float[4,3,3,3] w1, float[4,4,3,3] w2) => (float[N,4,h,w] y)
        <int64[1] two = {2}, int64[1] four = {4}, int64[2] nc = {1, 4}> {
            a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1)
            all = Shape(x)
            size = Slice(all, two, four)
            sizes = Concat<axis=0>(nc, size)
            big = Resize<mode="nearest">(a, , , sizes)
            y = Conv<pads=[1,1,1,1]>(big, w2)
        }""")
    blocks = partition(model)
    assert not violations(model, blocks)
    assert [set(b.nodes) for b in blocks] == [{"a"}, {"all", "size", "sizes", "big", "y"}]
    assert blocks[1].inputs == ("a", "x")
    assert "a" not in doubtful(infer_shapes(model), blocks)


def test_shape_arithmetic_is_not_carried_from_block_to_block():
    model = raw_graph("""
        agraph (float[N,3,H,W] x, float[4,3,3,3] w1, float[4,4,3,3] w2, float[4,4,3,3] w3) => (float[N,4,h,w] y)
        <int64[1] two = {2}, int64[1] four = {4}, int64[2] nc = {1, 4}> {
            a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1)
            all = Shape(x)
            size = Slice(all, two, four)
            sizes = Concat<axis=0>(nc, size)
            big = Resize<mode="nearest">(a, , , sizes)
            b = Conv<strides=[2,2], pads=[1,1,1,1]>(big, w2)
            c = Conv<strides=[2,2], pads=[1,1,1,1]>(b, w2)
            bigger = Resize<mode="nearest">(c, , , sizes)
            y = Conv<pads=[1,1,1,1]>(bigger, w3)
        }""")
    blocks = partition(model)
    assert not violations(model, blocks)
    assert [b.outputs for b in blocks] == [("a",), ("b",), ("c",), ("y",)]
    assert [b.inputs for b in blocks] == [("x",), ("a", "x"), ("b",), ("c", "x")]


def test_blocks_that_hand_on_what_cannot_be_cut_into_samples_are_joined():
    model = raw_graph("""
        agraph (float[N,3,8,8] x, float[4,3,3,3] w1, float[4,8] w2, float[8,4] w3, float[4,4,3,3] w4) => (float[N,4,h,w] y)
        <int64[2] rows = {-1, 4}, int64[4] image = {-1, 8, 8, 4}> {
            a = Conv<strides=[2,2], pads=[5,5,5,5]>(x, w1)
            moved = Transpose<perm=[0,2,3,1]>(a)
            flat = Reshape(moved, rows)
            wide = MatMul(flat, w2)
            act = Relu(wide)
            narrow = MatMul(act, w3)
            back = Reshape(narrow, image)
            again = Transpose<perm=[0,3,1,2]>(back)
            sum = Add(again, a)
            y = Conv<pads=[1,1,1,1]>(sum, w4)
        }""")
    layers = by_layer(model)
    assert [b.outputs for b in layers] == [("a", "flat"), ("act",), ("sum",), ("y",)]
    assert doubtful(infer_shapes(model), layers) == ("flat", "act", "sum", "y"), "of a the graph tells that N is first"
    merged = merge(model, layers, {"act"})
    assert not violations(model, merged)
    assert [b.outputs for b in merged] == [("a", "flat"), ("sum",), ("y",)]
    assert [len(b.weights) for b in merged] == [1, 2, 1]
    assert merge(model, layers, set()) == layers
    assert [b.targets for b in merge(model, layers, {"y"})] == [("a", "flat"), ("act",), ("sum",), ()]
    across = merge(model, layers, {"a"})
    assert [b.weights for b in across] == [("w1", "w2", "w3"), ("w4",)], "what lies between the two joins them"


def test_blocks_wait_for_the_shapes_they_need():
    """`r` is resized to the size of `side`, which no data path says; by node order its block would come first."""
    model = raw_graph("""
        agraph (float[N,4,H,W] x, float[4,4,1,1] w1, float[4,4,1,1] w2, float[4,4,1,1] w3, float[4,4,1,1] w4)
            => (float[N,4,h,w] side, float[N,4,h,w] y)
        {
            s = Conv(x, w1)
            a = Conv(s, w2)
            side = Conv(s, w3)
            size = Shape(side)
            r = Resize<mode="nearest">(a, , , size)
            y = Conv(r, w4)
        }""")
    blocks = partition(model)
    assert blocks == by_structure(model)
    assert [b.nodes for b in blocks] == [("s",), ("side",), ("a", "size", "r", "y")]


def test_layers_one_by_one_where_shape_arithmetic_ties_blocks_into_a_cycle():
    model = raw_graph("""
        agraph (float[N,3,H,W] x, float[4,3,3,3] w1, float[4,4,1,1] w2) => (float[N,4,h,w] s, float[N,4,h,w] t)
        {
            a = Conv(x, w1)
            s = Sigmoid(a)
            size = Shape(s)
            b = Conv(a, w2)
            c = Expand(b, size)
            d = Conv(c, w2)
            t = Sigmoid(d)
        }""")
    assert violations(model, by_structure(model)), "both Sigmoids are one tail, and the second layer needs the shape of one"
    assert partition(model) == by_layer(model)
    assert [b.nodes for b in partition(model)] == [("a", "s", "size"), ("b", "c"), ("d", "t")]


def test_a_graph_without_weights_is_one_float_block():
    model = raw_graph("agraph (float[N,3] x) => (float[N,3] y) { a = Relu(x) y = Softmax(a) }")
    assert [(b.kind, b.nodes, b.weights) for b in partition(model)] == [("float", ("a", "y"), ())]


def test_two_hundred_layers_and_a_fully_connected_dense_graph():
    net = Net(channels=2, size=4)
    y = "x"
    for i in range(200):
        y = net.conv(f"c{i}", y, 2, k=3)
    assert len(partition(net.model(y))) == 67

    net = Net(channels=2, size=4)
    features = ["x"]
    for i in range(60):  # 1,800 edges, every value read by all later layers
        features.append(net.conv(f"c{i}", net.concat(*features) if i else "x", 1))
    assert len(partition(net.model(features[-1]))) == 60


def test_violations_name_what_is_wrong():
    net = Net()
    model = net.model(net.conv("b", net.conv("a", "x", 4, act=""), 4, act=""))
    blocks = by_layer(model)
    assert violations(model, blocks) == []
    assert violations(model, blocks[::-1]) == ["block 'b' reads 'a' of a later block"]
    assert violations(model, blocks[:1]) != []
    assert violations(model, [*blocks, blocks[0]]) != []
