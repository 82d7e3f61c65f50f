"""What is not supported is found, named and explained, all of it at once; what is supported passes."""

from __future__ import annotations

import shlex

import numpy as np
import onnx
import pytest
from onnx_models import parse

from genie_onnx.errors import ModelError
from genie_onnx.graph import check, fix_inputs, load, normalise, problems
from genie_onnx.graph.ops import SUPPORTED_OPS
from genie_onnx.importer.fallback import VETTED
from genie_onnx.importer.table import CONVERTERS

IMAGE = "float[N,4,6,6] x"
BN = "float[4] gamma, float[4] beta, float[4] mean, float[4] var"
# name: (inputs and weights, outputs, nodes, what the one problem says)
REFUSED = {
    "lstm": (
        "float[N,4,8] x, float[1,12,8] w, float[1,12,3] r",
        "float[] y",
        "y = LSTM<hidden_size=3>(x, w, r)",
        ["input 'x' has shape [N, 4, 8]", "LSTM 'LSTM_y': recurrent layers are not supported"],
    ),
    "custom": (
        IMAGE,
        "float[] y",
        "a = Relu(x) y = custom.Fancy(a)",
        ["Fancy 'Fancy_y': the operator is of the domain 'custom'"],
    ),
    "several_of_a_kind": (
        IMAGE,
        "float[] y",
        "a = Det(x) b = Det(x) y = Add(a, b)",
        ["Det 'Det_a' (and 1 more): this operator is not"],
    ),
    "loop": (
        IMAGE,
        "float[] y",
        "s = ReduceMax<keepdims=0>(x) z = Greater(s, s) y = If<then_branch = t () => (float[] p) { p = Relu(x) },"
        " else_branch = e () => (float[] q) { q = Neg(x) }>(z)",
        ["If 'If_y': branches and loops are not supported"],
    ),
    "quantized": (
        f"{IMAGE}, float s, uint8 z",
        "float[] y",
        "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
        ["the model is quantized already (2 such nodes, the first is QuantizeLinear"],
    ),
    "not_an_image": ("float[N,10] x", "float[] y", "y = Relu(x)", ["input 'x' has shape [N, 10]; images [N, C, H, W]"]),
    "open_channels": ("float[N,C,6,6] x", "float[] y", "y = Relu(x)", ["input 'x' has shape [N, C, 6, 6]"]),
    "float16": ("float16[N,4,6,6] x", "float16[] y", "y = Relu(x)", ["input 'x' has FLOAT16; float32 is supported: convert it"]),
    "double": (
        "double[N,4,6,6] x",
        "double[] y",
        "y = Relu(x)",
        ["input 'x' has DOUBLE; float32 is supported: export the model in"],
    ),
    "string": (
        "string[N,4,6,6] x",
        "string[] y",
        "y = Identity(x)",
        ["input 'x' has STRING; float32 is supported: models of text"],
    ),
    "sequence": (
        "seq(float[N,4,6,6]) x",
        "seq(float[N,4,6,6]) y",
        "y = Identity(x)",
        ["input 'x' has the type Sequence(Tensor(FLOAT))"],
    ),
    "no_shape": ("float[] x", "float[] y", "y = Relu(x)", ["input 'x' has shape unknown; images [N, C, H, W]"]),
    "uint8": (
        "uint8[N,4,6,6] x",
        "float[] y",
        "y = Cast<to=1>(x)",
        ["input 'x' has UINT8; float32 is supported: cut the conversion"],
    ),
    "open_channels_last": (
        "float[N,6,6,C] x",
        "float[] y",
        "t = Transpose<perm=[0,3,1,2]>(x) y = Relu(t)",
        ["input 'x' has shape [N, 6, 6, C]; images [N, C, H, W] or [N, H, W, C]"],
    ),
    "float64_weight": (
        f"{IMAGE}, double[4,4,3,3] w",
        "float[] y",
        "y = Conv(x, w)",
        ["1 weights are not float32 (the first: 'w' of Conv 'Conv_y' is DOUBLE)"],
    ),
    "nan": (
        f"{IMAGE}, float[4,4,3,3] nan",
        "float[] y",
        "y = Conv(x, nan)",
        ["the weight 'nan' of Conv 'Conv_y' has 1 of 144 values NaN"],
    ),
    "infinite": (
        f"{IMAGE}, float[4,4,3,3] inf",
        "float[] y",
        "y = Conv(x, inf)",
        ["the weight 'inf' of Conv 'Conv_y' has 1 of 144"],
    ),
    "negative_variance": (
        f"{IMAGE}, {BN}",
        "float[] y",
        "y = BatchNormalization(x, gamma, beta, mean, mean)",
        ["BatchNormalization 'BatchNormalization_y' has a variance below -epsilon"],
    ),
    "training": (
        f"{IMAGE}, {BN}",
        "float[] y, float[] m",
        "y, m, v = BatchNormalization<training_mode=1>(x, gamma, beta, mean, var)",
        ["BatchNormalization 'BatchNormalization_y': its extra output 'm' is used"],
    ),
    "max_pool_indices": (
        IMAGE,
        "float[] y, int64[] i",
        "y, i = MaxPool<kernel_shape=[2,2]>(x)",
        ["MaxPool 'MaxPool_y': its extra output 'i' is used"],
    ),
    "undefined": (IMAGE, "float[] y", "y = Add(x, nowhere)", ["Add 'Add_y' reads 'nowhere', which nothing in the file defines"]),
    "undefined_output": (IMAGE, "float[] y, float[] z", "y = Relu(x)", ["output 'z' is computed by nothing in the file"]),
    "unknown_attribute": (
        IMAGE,
        "float[] y",
        "y = Relu<slope=1>(x)",
        ["Relu 'Relu_y' is not as ONNX specifies it: Unrecognized"],
    ),
    "arity": (
        IMAGE,
        "float[] y",
        "y = Conv(x)",
        ["Conv 'Conv_y' is not as ONNX specifies it: Node with schema(::Conv:11) has input size 1"],
    ),
    "empty_operand": (
        f"{IMAGE}, float[4] w",
        "float[] y",
        "y = PRelu(, w)",
        ["PRelu 'PRelu_y' is not as ONNX specifies it: Node ()'s input 0"],
    ),
    "attribute": (
        IMAGE,
        "float[] y",
        "y = Concat(x, x)",
        ["Concat 'Concat_y' is not as ONNX specifies it: Required attribute 'axis'"],
    ),
    "channels_of_conv": (f"{IMAGE}, float[4,5,3,3] w", "float[] y", "y = Conv(x, w)", ["Conv 'Conv_y' gets 4 channels, but its"]),
    "channels_of_group": (
        f"{IMAGE}, float[4,4,3,3] w",
        "float[] y",
        "y = Conv<group=2>(x, w)",
        ["Conv 'Conv_y' gets 4 channels"],
    ),
    "channels_of_bn": (
        f"{IMAGE}, {BN.replace('[4]', '[3]')}",
        "float[] y",
        "y = BatchNormalization(x, gamma, beta, mean, var)",
        ["BatchNormalization 'BatchNormalization_y' gets 4 channels"],
    ),
    "bias_of_conv": (
        f"{IMAGE}, float[5,4,3,3] w, float[1,5] b",
        "float[] y",
        "y = Conv(x, w, b)",
        ["Conv 'Conv_y' has 5 channels, but 'b' is [1, 5]"],
    ),
    "bias_of_convtranspose": (
        f"{IMAGE}, float[4,3,2,2] w, float[3] b",
        "float[] y",
        "y = ConvTranspose<group=2>(x, w, b)",
        ["ConvTranspose 'ConvTranspose_y' has 6 channels, but 'b' is [3]"],
    ),
    "empty_kernel": (
        f"{IMAGE}, float[4,4,0,3] w",
        "float[] y",
        "y = Conv(x, w)",
        ["Conv 'Conv_y' has an empty weight, [4, 4, 0"],
    ),
    "empty_image": ("float[N,4,0,6] x", "float[] y", "y = Relu(x)", ["input 'x' has the shape [N, 4, 0, 6], it is empty"]),
    "empty_value": (
        IMAGE,
        "float[] y",
        "k = Constant<value_ints=[0,0,-6,0,0,0,0,0]>() p = Pad(x, k) y = Relu(p)",
        ["Pad 'Pad_p': its result 'p' has the shape [N, 4, 0, 6], it is empty"],
    ),
    "huge_image": (
        "float[N,4,1099511627776,6] x",
        "float[] y",
        "y = Relu(x)",
        ["input 'x' has the shape [N, 4, 1099511627776, 6]"],
    ),
    "huge_batch": (
        "float[1099511627776,4,6,6] x",
        "float[] y",
        "y = Relu(x)",
        ["input 'x' has the shape [N, 4, 6, 6], 1.58e+14"],
    ),
    "huge_value": (
        IMAGE,
        "float[] y",
        "k = Constant<value_ints=[1,1,16777216,1]>() e = Tile(x, k) y = ReduceMax(e)",
        ["Tile 'Tile_e': its result 'e' has the shape ["],
    ),
    "many_dimensions": (
        IMAGE,
        "float[] y",
        f"a = Constant<value_ints={list(range(4, 24))}>() u = Unsqueeze(x, a) y = Relu(u)",
        ["'u' has 24 dimensions; up to 16"],
    ),
    "output_claims": (IMAGE, "float[N,4,6,7] y", "y = Relu(x)", ["the model contradicts itself, says onnx's shape"]),
    "output_rank": (IMAGE, "float[N,4] y", "y = Relu(x)", ["the model contradicts itself, says onnx's shape"]),
    "contradiction": (
        f"{IMAGE}, float[7,2] w",
        "float[] y",
        "y = MatMul(x, w)",
        ["the model contradicts itself, says onnx's shape"],
    ),
}


def model(case: str) -> onnx.ModelProto:
    inputs, outputs, nodes, _ = REFUSED[case]
    broken = np.ones((4, 4, 3, 3), np.float32)
    arrays = {name: broken.copy() for name in ("nan", "inf")} | {"z": np.uint8([0])[0], "w64": broken}
    arrays["nan"][0, 1, 2, 0], arrays["inf"][3, 0, 0, 0] = np.nan, np.inf
    if case == "float64_weight":
        arrays["w"] = broken.astype(np.float64)
    return parse(f"g ({inputs}) => ({outputs}) {{ {nodes} }}", **arrays)


@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_is_named(case: str) -> None:
    """Exactly the problems there are, each with a remedy after what was found."""
    found = problems(load(model(case)))
    assert len(found) == len(REFUSED[case][3]), found
    for sentence, start in zip(found, REFUSED[case][3], strict=True):
        assert sentence.startswith(start), sentence
        assert "\n" not in sentence


def test_all_problems_at_once() -> None:
    """Interface, operators and weights in one error."""
    proto = parse(
        "g (float[1,C,6,6] x, float[4,4,3,3] w) => (float[] y)"
        "{ c = Conv(x, w) a = Det(c) b = custom.Odd(a) y = Concat<axis=0>(b, b) }",
        w=np.full((4, 4, 3, 3), np.nan, np.float32),
    )
    with pytest.raises(ModelError) as error:
        check(load(proto))
    text = str(error.value)
    assert len(error.value.problems) == 4  # Det and Odd may do with the batch what they like: nothing is said about it
    for part in ("input 'x'", "Det 'Det_a'", "Odd 'Odd_b'", "the weight 'w'"):
        assert part in text


def test_fixed_batch_beside_other_problems() -> None:
    proto = parse(
        "g (float[1,3,6,6] x, float[4,3,3,3] w) => (float[] y) { c = Conv(x, w) y = Concat<axis=0>(c, c) }",
        w=np.full((4, 3, 3, 3), np.nan, np.float32),
    )
    assert ["fixed batch" in sentence for sentence in problems(load(proto))] == [False, True]


def test_two_inputs() -> None:
    """One image input is supported; the message names what is there."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,4,4] x, float[N,3,4,4] z) => (float[] y) { y = Add(x, z) }'
    )
    assert problems(load(proto)) == [
        "the model has 2 inputs ('x' FLOAT [N, 3, 4, 4], 'z' FLOAT [N, 3, 4, 4]); one image input is supported. "
        "Export the part that takes the image alone."
    ]


@pytest.mark.parametrize(
    ("inputs", "nodes", "options", "meaning"),
    [
        (
            "float[1,2] scale",
            "s = ReduceMax<keepdims=0>(scale) y = Mul(x, s)",
            "--set-input scale=0,0",
            " (0 is only a placeholder there: put",
        ),
        ("float[1,3,1,1] mean", "y = Sub(x, mean)", "--set-input mean=0,0,0", " (0 where an input is added or subtracted leave"),
        ("float[N,1] t", "y = Add(x, t)", "--set-input t=VALUE", "; or export"),  # whatever its size: open
        ("float[1,1,1,65] row", "y = Mul(x, row)", "--set-input row=VALUE", None),  # might be an image as well
        (  # as Keras loses the constants of its Normalization layer
            "float[1,3,1,1] mean, float[1,3,1,1] var",
            "d = Sub(x, mean) s = Sqrt(var) y = Div(d, s)",
            "--set-input mean=0,0,0 --set-input var=1,1,1",
            " (0 where an input is added or subtracted and 1 where it multiplies or divides leave it out: put",
        ),
        (
            "float[2] both, int64[1] count",
            "f = Cast<to=1>(count) a = Mul(x, f) m = ReduceMax<keepdims=0>(both) y = Add(a, m)",
            "--set-input both=0,0 --set-input count=1",
            " (1 where it multiplies or divides leave it out, 0 is only a placeholder elsewhere: put",
        ),
    ],
)  # fmt: skip
def test_inputs_beside_the_image_can_be_given_a_constant(inputs: str, nodes: str, options: str, meaning: str | None) -> None:
    """The very options, with as many numbers as each input has entries, and what these do; they are taken."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,4,4] x, {inputs}) => (float[] y) {{ {nodes} }}'
    )
    (sentence,) = problems(load(proto))
    if meaning is None:
        assert sentence.endswith("one image input is supported. Export the part that takes the image alone.")
        return
    assert f"Give the others a constant: {options}{meaning}" in sentence
    assert sentence.endswith("or export the part that takes the image alone.")
    if "VALUE" not in options:
        given = dict(text.split("=") for text in shlex.split(options)[1::2])
        model = load(proto)
        fix_inputs(model, {name: [float(n) for n in numbers.split(",")] for name, numbers in given.items()})
        assert [v.name for v in model.graph.inputs] == ["x"]
        assert "inputs" not in " ".join(problems(model))


def test_names_of_inputs_are_quoted_for_the_shell() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,4,4] x, float[1,3,1,1] mean) => (float[] y) { y = Sub(x, mean) }'
    )
    proto.graph.input[1].name = proto.graph.node[0].input[1] = "normalization/Sub y:0"
    (sentence,) = problems(load(proto))
    assert "--set-input 'normalization/Sub y:0=0,0,0'" in sentence


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ("y = com.microsoft.FusedConv(x, x)", "the operator is onnxruntime's own ('com.microsoft'), written by its optimiser;"),
        ("y = org.pytorch.aten.ATen(x)", "the exporter knew no ONNX for this and wrote torch's operator ('org.pytorch.aten')."),
        ("y = mine.Conv(x, x)", "the operator is of the domain 'mine'; standard ONNX operators are supported."),
        (
            "s = SplitToSequence<axis=1>(x) y = ConcatFromSequence<axis=1>(s)",
            "lists of tensors are not supported. Export with fixed",
        ),
        ("y = RandomUniformLike(x)", "random numbers are not supported. Export in inference mode (model.eval())"),
        ("y = Bernoulli(x)", "random numbers are not supported."),
        ("y = Det(x)", "this operator is not supported. Export without it, or cut the model before it"),
    ],
)
def test_operators_are_refused_with_a_way_out(node: str, text: str) -> None:
    """The way out depends on the kind of operator."""
    head = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "org.pytorch.aten" : 1, "mine" : 1]>'
    proto = onnx.parser.parse_model(f"{head} g (float[N,4,6,6] x) => (float[] y) {{ {node} }}")
    found = problems(load(proto))
    assert any(text in sentence for sentence in found), found
    assert all("\n" not in sentence for sentence in found), found


@pytest.mark.parametrize("op", ["DynamicQuantizeMatMul", "MatMulNBits", "QGemm", "QLinearAdd", "QAttention"])
def test_quantized_by_onnxruntime_is_quantized(op: str) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'
    proto = onnx.parser.parse_model(f"{head} g (float[N,4,6,6] x) => (float[] y) {{ y = com.microsoft.{op}(x, x, x) }}")
    assert problems(load(proto))[0].startswith(f"the model is quantized already (1 such nodes, the first is {op}")


ACCEPTED = {
    "open_size": ("float[N,3,H,W] x", "y = Relu(x)"),
    "fixed_batch": ("float[1,3,4,4] x", "s = Constant<value_ints=[1,-1]>() y = Reshape(x, s)"),
    "infinite_limit": (IMAGE + ", float inf, float low", "y = Clip(x, low, inf)"),
    "folded_away": (IMAGE, "k = Constant<value = float[2,2] {1.0, 0.0, 0.0, 1.0}>() d = Det(k) y = Mul(x, d)"),
    "empty_axes": (
        IMAGE,
        "a = Constant<value_ints: ints = []>() s = Shape(x) e = Slice(s, a, a) t = Concat<axis=0>(e, s) y = Reshape(x, t)",
    ),
    "open_claims": ("float[1,4,6,6] x", "y = Relu(x)"),
    "unused": (IMAGE, "d = custom.Odd(x) y = Relu(x)"),
    "mask_unused": (IMAGE, "d, m = Dropout(x) y = Relu(d)"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_supported_passes(case: str) -> None:
    """What folding removes, and what the rest of the package can live with, is no problem."""
    inputs, nodes = ACCEPTED[case]
    limits = {"inf": np.float32([np.inf])[0], "low": np.float32([-1])[0]}
    user = load(parse(f"g ({inputs}) => (float[] y) {{ {nodes} }}", **limits))
    assert [node.op_type for node in check(user).graph] == [node.op_type for node in normalise(user).graph]


def test_supported_operators_are_those_of_the_importer() -> None:
    """A graph that passes `check` can be imported: operators outside both tables are ones that only make constants."""
    importable = set(CONVERTERS) | VETTED
    assert importable >= SUPPORTED_OPS
    assert importable - SUPPORTED_OPS <= {"EyeLike", "NonZero"}
