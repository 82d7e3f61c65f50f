"""Files as other exporters write them, made by hand: what torch never emits, and what has to be refused with a way out.

Every function returns a ModelProto with seeded random weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
"""Old published architectures that ship inside the onnx package: opset 9, their weights constants of one number."""


def model(text: str, opset: int, ir_version: int = 8, *, domains: str = "", **arrays: np.ndarray | np.generic) -> onnx.ModelProto:
    """Return the model of `text`: `(inputs) => (outputs) <constants> { nodes }`.

    Constants get the array given, else random numbers that keep the size of what runs through them (He).
    """
    proto = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}{domains}]> g {text}')
    random = np.random.default_rng(0)
    for info in proto.graph.value_info:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        array = np.asarray(arrays.get(info.name, random_weight(random, info.name, shape)))
        proto.graph.initializer.append(numpy_helper.from_array(array, info.name))
    del proto.graph.value_info[:]
    return proto


def random_weight(random: np.random.Generator, name: str, shape: list[int]) -> np.ndarray:
    """Return float32 numbers fit for a parameter of that name and shape."""
    if len(shape) > 1:
        return (random.normal(size=shape) * np.sqrt(2 / max(int(np.prod(shape[1:])), 1))).astype(np.float32)
    if any(word in name for word in ("var", "scale")):
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    return random.normal(0, 0.2, shape).astype(np.float32)


def keras_inside_nhwc() -> onnx.ModelProto:
    """tf2onnx --inputs-as-nchw: convolutions between Transposes, asymmetric pads, BN as Mul and Add, pads of kind SAME."""
    return model(
        """(float[unk, 3, 32, 32] image) => (float[unk, 10] dense) <
        float[16, 3, 3, 3] w0, float[1, 1, 1, 16] scale0, float[1, 1, 1, 16] b0, float[16, 1, 3, 3] w1, float[32, 16, 1, 1] w2,
        float[32] bias2, float[32, 10] w3, float[10] b3, float six, float zero, int64[4] padding> {
            p0 = Pad<mode = "constant">(image, padding, zero)
            c0 = Conv<strides = [2, 2], kernel_shape = [3, 3]>(p0, w0)
            t0 = Transpose<perm = [0, 2, 3, 1]>(c0)
            m0 = Mul(t0, scale0)
            a0 = Add(m0, b0)
            r0 = Clip(a0, zero, six)
            t1 = Transpose<perm = [0, 3, 1, 2]>(r0)
            c1 = Conv<group = 16, strides = [2, 2], pads = [0, 0, 1, 1], kernel_shape = [3, 3]>(t1, w1)
            r1 = Relu(c1)
            q1 = MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [3, 3], strides = [2, 2]>(r1)
            c2 = Conv<auto_pad = "SAME_UPPER", kernel_shape = [1, 1]>(q1, w2, bias2)
            t2 = Transpose<perm = [0, 2, 3, 1]>(c2)
            s2 = Sigmoid(t2)
            y2 = Mul(t2, s2)
            g = ReduceMean<axes = [1, 2], keepdims = 0>(y2)
            d = MatMul(g, w3)
            dense = Add(d, b3)
        }""".replace("int64[4] padding", "int64[8] padding"),
        13,
        padding=np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64),
        zero=np.float32(0),
        six=np.float32(6),
    )


def keras_nhwc_input() -> onnx.ModelProto:
    """tf2onnx's default: the image comes with its channels last."""
    return model(
        """(float[unk, 32, 32, 3] image) => (float[unk, 8] y) <float[8, 3, 3, 3] w0, float[8, 8] w1> {
            t = Transpose<perm = [0, 3, 1, 2]>(image)
            c = Conv<auto_pad = "SAME_UPPER", strides = [2, 2], kernel_shape = [3, 3]>(t, w0)
            r = Relu(c)
            g = ReduceMean<axes = [2, 3], keepdims = 0>(r)
            y = MatMul(g, w1)
        }""",
        13,
    )


def paddle() -> onnx.ModelProto:
    """paddle2onnx: weights as Constant nodes, BatchNormalization kept, shape arithmetic for flattening, hard swish."""
    proto = model(
        """(float[-1, 3, 32, 32] x) => (float[-1, 6] fc) <
        float[16, 3, 3, 3] conv2d_0_w_0, float[16] batch_norm_0_scale, float[16] batch_norm_0_b_0, float[16] batch_norm_0_mean,
        float[16] batch_norm_0_var, float[16, 1, 3, 3] conv2d_1_w_0, float[16] batch_norm_1_scale, float[16] batch_norm_1_b_0,
        float[16] batch_norm_1_mean, float[16] batch_norm_1_var, float[16, 6] linear_0_w_0, float[6] linear_0_b_0,
        float three, float six, float zero, int64[1] start, int64[1] end, int64[1] rest, int64[1] axis> {
            a = Conv<strides = [2, 2], pads = [1, 1, 1, 1], dilations = [1, 1], group = 1, kernel_shape = [3, 3]>(x, conv2d_0_w_0)
            b = BatchNormalization<epsilon = 1e-05, momentum = 0.9>(a, batch_norm_0_scale, batch_norm_0_b_0,
                batch_norm_0_mean, batch_norm_0_var)
            c = Add(b, three)
            d = Clip(c, zero, six)
            e = Mul(b, d)
            f = Div(e, six)
            h = Conv<pads = [1, 1, 1, 1], group = 16, kernel_shape = [3, 3]>(f, conv2d_1_w_0)
            i = BatchNormalization<epsilon = 1e-05>(h, batch_norm_1_scale, batch_norm_1_b_0, batch_norm_1_mean, batch_norm_1_var)
            j = Relu(i)
            k = GlobalAveragePool(j)
            shape = Shape(k)
            first = Slice(shape, start, end, axis)
            two = Concat<axis = 0>(first, rest)
            l = Reshape(k, two)
            m = MatMul(l, linear_0_w_0)
            fc = Add(m, linear_0_b_0)
        }""".replace("-1, 3, 32", "batch, 3, 32").replace("[-1, 6]", "[batch, 6]"),
        11,
        three=np.float32(3),
        six=np.float32(6),
        zero=np.float32(0),
        start=np.array([0], np.int64),
        end=np.array([1], np.int64),
        rest=np.array([-1], np.int64),
        axis=np.array([0], np.int64),
    )
    constants = [
        helper.make_node("Constant", [], [t.name], f"Constant.{i}", value=t) for i, t in enumerate(proto.graph.initializer)
    ]
    nodes = [*constants, *proto.graph.node]
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.node.extend(nodes)
    return proto


def caffe_style() -> onnx.ModelProto:
    """IR 3, opset 7: initializers among the inputs, BN followed by Mul and Add, pools with asymmetric pads, LRN, Sum."""
    proto = model(
        """(float[2, 3, 31, 31] data) => (float[2, 5] prob) <
        float[8, 3, 3, 3] conv1_w, float[8] bn_scale, float[8] bn_b, float[8] bn_mean, float[8] bn_var, float[8, 1, 1] mul_scale,
        float[8, 1, 1] add_b, float[8, 8, 3, 3] conv2_w, float[8] conv2_b, float[5, 8] fc_w, float[5] fc_b, int64[2] to> {
            c = Conv<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(data, conv1_w)
            n = BatchNormalization<epsilon = 1e-05>(c, bn_scale, bn_b, bn_mean, bn_var)
            s = Mul(n, mul_scale)
            t = Add(s, add_b)
            r = Relu(t)
            p = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 1, 1]>(r)
            l = LRN<size = 5, alpha = 0.0001, beta = 0.75, bias = 1.0>(p)
            d = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(l, conv2_w, conv2_b)
            e = Sum(d, l)
            f = Relu(e)
            o = Dropout<ratio = 0.5>(f)
            g = GlobalAveragePool(o)
            v = Reshape(g, to)
            y = Gemm<transB = 1>(v, fc_w, fc_b)
            prob = Softmax(y)
        }""",
        7,
        3,
        to=np.array([2, 8], np.int64),
    )
    proto.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in proto.graph.initializer)
    return proto


def light(name: str) -> onnx.ModelProto:
    """light_NAME.onnx with random weights where the file makes tensors of one number."""
    proto = onnx.load(LIGHT / f"light_{name}.onnx")
    random = np.random.default_rng(0)
    shapes = {t.name: numpy_helper.to_array(t).tolist() for t in proto.graph.initializer if t.data_type == TensorProto.INT64}
    roles = {
        n: "var" if i in (1, 4) else "b"
        for node in proto.graph.node
        if node.op_type == "BatchNormalization"
        for i, n in enumerate(node.input)
    }
    kept = []
    for node in proto.graph.node:
        if node.op_type == "ConstantOfShape":
            (result,) = node.output
            proto.graph.initializer.append(
                numpy_helper.from_array(random_weight(random, roles.get(result, result), shapes[node.input[0]]), result)
            )
        else:
            kept.append(node)
    read = {n for node in kept for n in node.input}
    tensors = [t for t in proto.graph.initializer if t.name in read]
    inputs = [v for v in proto.graph.input if v.name in read and v.name not in shapes]
    for field, entries in ((proto.graph.node, kept), (proto.graph.initializer, tensors), (proto.graph.input, inputs)):
        del field[:]
        field.extend(entries)
    proto.ir_version = 4  # the first in which initializers need not be among the inputs
    return proto


def half_precision() -> onnx.ModelProto:
    """A model converted to float16."""
    proto = model(
        """(float16[N, 3, 16, 16] x) => (float16[N, 4, 14, 14] y) <float[4, 3, 3, 3] w> { y = Conv(x, w) }""",
        17,
    )
    half = numpy_helper.to_array(proto.graph.initializer[0]).astype(np.float16)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(half, "w"))
    return proto


def quantized_already() -> onnx.ModelProto:
    """A QDQ file."""
    return model(
        """(float[N, 3, 16, 16] x) => (float[N, 4, 14, 14] y) <float[4, 3, 3, 3] w, float s, uint8 z> {
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            y = Conv(d, w)
        }""",
        17,
        s=np.float32(0.02),
        z=np.uint8(128),
    )


def recurrent() -> onnx.ModelProto:
    """Convolutions before an LSTM, as for reading text."""
    return model(
        """(float[1, 1, 16, 64] x) => (float[64, 1, 1, 8] y) <
        float[8, 1, 16, 3] w, float[1, 32, 8] lstm_w, float[1, 32, 8] lstm_r> {
            c = Conv<pads = [0, 1, 0, 1]>(x, w)
            r = Relu(c)
            axes = Constant<value_ints = [2]>()
            s = Squeeze(r, axes)
            t = Transpose<perm = [2, 0, 1]>(s)
            y = LSTM<hidden_size = 8>(t, lstm_w, lstm_r)
        }""",
        17,
    )


def box_selection() -> onnx.ModelProto:
    """A detector with NonMaxSuppression at its end."""
    return model(
        """(float[1, 3, 16, 16] x) => (int64[k, 3] chosen) <
        float[4, 3, 3, 3] wb, float[1, 3, 3, 3] ws, int64[3] boxes_shape, int64[3] scores_shape, int64 most,
        float iou, float least> {
            b = Conv<pads = [1, 1, 1, 1]>(x, wb)
            s = Conv<pads = [1, 1, 1, 1]>(x, ws)
            boxes = Reshape(b, boxes_shape)
            scores = Reshape(s, scores_shape)
            chosen = NonMaxSuppression(boxes, scores, most, iou, least)
        }""",
        17,
        boxes_shape=np.array([1, 256, 4], np.int64),
        scores_shape=np.array([1, 1, 256], np.int64),
        most=np.int64(10),
        iou=np.float32(0.5),
        least=np.float32(0.1),
    )


def two_inputs() -> onnx.ModelProto:
    """A network of two images."""
    return model(
        """(float[N, 3, 16, 16] a, float[N, 3, 16, 16] b) => (float[N, 4, 14, 14] y) <float[4, 3, 3, 3] w> {
            d = Sub(a, b)
            y = Conv(d, w)
        }""",
        17,
    )


def runtime_domain() -> onnx.ModelProto:
    """A file that onnxruntime has optimised, with operators of its own."""
    return model(
        """(float[N, 3, 16, 16] x) => (float[N, 4, 14, 14] y) <float[4, 3, 3, 3] w> {
            y = com.microsoft.FusedConv<activation = "Relu">(x, w)
        }""",
        17,
        domains=', "com.microsoft" : 1',
    )


STYLES: dict[str, Callable[[], onnx.ModelProto]] = {
    "keras_inside_nhwc": keras_inside_nhwc,
    "keras_nhwc_input": keras_nhwc_input,
    "paddle": paddle,
    "caffe_style": caffe_style,
    "half_precision": half_precision,
    "quantized_already": quantized_already,
    "recurrent": recurrent,
    "box_selection": box_selection,
    "two_inputs": two_inputs,
    "runtime_domain": runtime_domain,
}
