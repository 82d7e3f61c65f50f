"""Inputs beside the image become constants."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_models import image, run

from genie_onnx.errors import ConfigError
from genie_onnx.graph import check, fix_inputs, load, normalise
from genie_onnx.graph.query import constant


def model() -> ir.Model:
    """y = x * scale[:, :2] summed + count, with three inputs."""
    return load(
        onnx.parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[N,3,4,4] x, float[B,2] scale, int64[1] count, string[1] name) => (float[N,3,4,4] y) {
                s = ReduceSum <keepdims = 0> (scale)
                a = Mul (x, s)
                c = Cast <to = 1> (count)
                y = Add (a, c)
            }"""
        )
    )


def without_text() -> ir.Model:
    loaded = model()
    loaded.graph.inputs.pop()
    return loaded


def test_numbers_for_each_entry_or_one_for_all() -> None:
    loaded = without_text()
    fix_inputs(loaded, {"scale": (1.5, 2.0), "count": (3,)})
    assert [v.name for v in loaded.graph.inputs] == ["x"]
    check(loaded)
    x = image(2, 3, 4, 4)
    np.testing.assert_allclose(run(loaded, x)["y"], x * 3.5 + 3, rtol=1e-6)
    one = without_text()
    fix_inputs(one, {"scale": (0.25,), "count": (0,)})
    np.testing.assert_allclose(run(one, x)["y"], x * 0.5, rtol=1e-6)
    assert [n.op_type for n in normalise(one).graph] == ["Mul", "Add"]


def test_values_have_the_type_and_shape_of_the_input() -> None:
    loaded = without_text()
    fix_inputs(loaded, {"scale": (1, 2), "count": (7,)})
    scale, count = (constant(loaded.graph.initializers[name]) for name in ("scale", "count"))
    assert scale is not None
    assert count is not None
    assert (scale.dtype, scale.shape, count.dtype, count.tolist()) == (np.float32, (1, 2), np.int64, [7])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"scael": (1.0,)}, "--set-input scael: the model has no such input; it has 'scale'."),
        ({"zzz": (1.0,)}, "it has 'x', 'scale', 'count', 'name'."),
        ({"scale": (1.0, 2.0, 3.0)}, "--set-input scale: 3 values were given; the input [1, 2] takes 1 or 2."),
        ({"count": (0.5,)}, "--set-input count: the input has INT64, which holds whole numbers."),
        ({"name": (1.0,)}, "--set-input name: the input has STRING; inputs of numbers can be set."),
    ],
)
def test_what_does_not_fit_is_named(values: dict[str, tuple[float, ...]], text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        fix_inputs(model(), values)


def test_all_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        fix_inputs(model(), {"zzz": (1.0,), "count": (0.5,)})
    assert len(error.value.problems) == 2
