"""Files that an exporter did not optimise: constants behind the type of a value, lists of tensors, shapes of weights."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx_models import difference, image, ops, parse, run

from genie_onnx.errors import ModelError
from genie_onnx.graph import check, load

# As torch.onnx.export(..., optimize=False) writes a convolution without bias
CONV = """g (float[{n},3,6,6] x, float[4,3,3,3] w, float[4] gamma, float[4] beta, float[4] mean, float[4] var) => (float[] y) {{
    count = Shape<start=0, end=1>(w) one = Constant<value_ints=[1]>() size = Expand(count, one)
    zero = Constant<value_float=0.0>() like = CastLike(zero, x) bias = Expand(like, size)
    c = Conv(x, w, bias) b = BatchNormalization(c, gamma, beta, mean, var)
    low = Constant<value_int=0>() high = Constant<value_int=6>() l = CastLike(low, b)
    h = CastLike(high, b) y = Clip(b, l, h) }}"""


@pytest.mark.parametrize("n", ["N", "1"])
def test_a_type_taken_from_another_value_is_a_constant(n: str) -> None:
    proto = parse(CONV.format(n=n))
    found = check(load(proto))
    assert ops(found) == ["Conv", "BatchNormalization", "Clip"]
    x = image(1, 3, 6, 6)
    assert difference(run(found, x), run(proto, x)) == 0


def test_a_type_taken_of_what_is_computed() -> None:
    """It stays a cast, of the image to integers and back."""
    proto = parse("g (float[N,3,6,6] x, float[4,3,3,3] w) => (float[] y) { i = Constant<value_int=0>() k = CastLike(x, i) "
                  "f = CastLike(k, x) y = Conv(f, w) }")  # fmt: skip
    found = check(load(proto))
    assert ops(found) == ["Cast", "Cast", "Conv"]
    x = 3 * image(2, 3, 6, 6)
    assert difference(run(found, x), run(proto, x)) == 0


LISTS = {
    "size": ("two = Constant<value_int=2>() s = SplitToSequence<axis=1>(x, two)", "b", [2, 2, 1]),
    "sizes": ("two = Constant<value_ints=[1,3,1]>() s = SplitToSequence<axis=-3>(x, two)", "b", [1, 3, 1]),
    "one each": ("s = SplitToSequence<axis=1>(x)", "b", [1] * 5),
    "output": ("two = Constant<value_int=2>() s = SplitToSequence<axis=1>(x, two)", "y", [2, 2, 1]),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_that_is_read_entry_by_entry_is_a_split(case: str) -> None:
    """From the front and from the back, the same entry twice, and one that is an output."""
    node, second, sizes = LISTS[case]
    tail = "y = Add(d, e)" if second == "b" else "z = Add(d, e)"
    proto = parse(
        f"g (float[N,5,4,4] x) => (float[] y{', float[] z' if second == 'y' else ''}) {{ {node} one = Constant<value_int=1>() "
        f"end = Constant<value_int=-{len(sizes) - 1}>() a = SequenceAt(s, one) {second} = SequenceAt(s, end) "
        f"d = Relu(a) e = Neg({second}) {tail} }}",
        opset=18,
    )
    found = check(load(proto))
    assert ops(found) == ["Split", "Relu", "Neg", "Add"]
    (split,) = [n for n in found.graph if n.op_type == "Split"]
    assert len(split.outputs) == len(sizes)
    x = image(2, 5, 4, 4)
    assert difference(run(found, x), run(proto, x)) == 0
    onnx.checker.check_model(ir.to_proto(found), full_check=True)


@pytest.mark.parametrize(
    "nodes",
    [
        "s = SplitToSequence<axis=1, keepdims=0>(x) one = Constant<value_int=1>() y = SequenceAt(s, one)",  # entries of rank 3
        "two = Constant<value_int=2>() s = SplitToSequence<axis=1>(x, two) y = ConcatFromSequence<axis=1>(s)",
        "two = Constant<value_int=2>() s = SplitToSequence<axis=1>(x, two) far = Constant<value_int=7>() y = SequenceAt(s, far)",
    ],
)
def test_other_lists_are_refused(nodes: str) -> None:
    with pytest.raises(ModelError, match="lists of tensors are not supported"):
        check(load(parse(f"g (float[N,5,4,4] x) => (float[] y) {{ {nodes} }}", opset=18)))
