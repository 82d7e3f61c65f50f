"""SQNR, cosine, agreement, the first difference: against hand-worked numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from simulation import model

from genie_onnx.errors import DataError
from genie_onnx.validate import compare, compare_models, first_difference
from genie_onnx.validate.compare import STEP

Y = np.float32([[3, 4], [0, 5]])


def test_hand_worked_figures() -> None:
    """signal 9 + 16 + 25 = 50, noise 0.5: 20 dB; the second sample's answer turns."""
    other = np.float32([[3, 4.5], [0.5, 5]])
    (output,) = compare({"y": Y}, {"y": other}).outputs
    assert output.sqnr_db == pytest.approx(20.0)
    assert output.cosine == pytest.approx(52 / np.sqrt(50 * 54.5))
    assert output.agreement == 1.0
    (output,) = compare({"y": Y}, {"y": np.float32([[3, 4], [6, 5]])}).outputs
    assert output.agreement == 0.5


def test_the_reference_is_the_first() -> None:
    """SQNR is not symmetric: the signal is the reference's."""
    assert compare({"y": Y}, {"y": Y * 2}).outputs[0].sqnr_db == pytest.approx(0)
    assert compare({"y": Y * 2}, {"y": Y}).outputs[0].sqnr_db == pytest.approx(10 * np.log10(4))


@pytest.mark.parametrize(
    ("shape", "logits"), [((4, 3), True), ((4, 3, 1, 1), True), ((4, 1), False), ((4, 3, 2, 2), False), ((4,), False)]
)
def test_agreement_is_for_logits_alone(shape: tuple[int, ...], logits: bool) -> None:
    y = np.random.default_rng(0).standard_normal(shape)
    (output,) = compare({"y": y}, {"y": y}).outputs
    assert (output.agreement is not None) == logits
    assert (output.sqnr_db, output.cosine) == (200.0, pytest.approx(1.0))


def test_zero_outputs_have_finite_figures() -> None:
    zero = np.zeros((2, 3))
    for other in (zero, zero + 1):
        json.dumps(compare({"y": zero}, {"y": other}).to_json(), allow_nan=False)


def test_missing_and_misshapen_outputs_are_refused() -> None:
    with pytest.raises(DataError, match=r"'y' is .* missing in the other"):
        compare({"y": Y}, {"z": Y})
    with pytest.raises(DataError, match=r"'y' is \(2, 2\) in the reference, \(2, 1\)"):
        compare({"y": Y}, {"y": Y[:, :1]})


def test_models_are_run_on_the_same_data() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]> g (float[N,2] x) => (float[N,2] y, float[N,2] z) {{
        y = {}(x, w) z = Neg(y) }}"""
    one, two = (model(text.format(op), w=np.float32([1.1, 1])) for op in ("Mul", "Div"))
    comparison = compare_models(one, two, {"x": Y})
    assert (comparison.samples, [o.name for o in comparison.outputs]) == (2, ["y", "z"])
    assert comparison.outputs[0].sqnr_db == pytest.approx(comparison.outputs[1].sqnr_db)
    assert compare_models(one, one, {"x": Y}).outputs[0].sqnr_db == 200


def test_few_samples_run_at_once() -> None:
    """A model that multiplies by the size of its batch shows how large that was."""
    text = """<ir_version: 8, opset_import: ["" : 13]> g (float[N,2] x) => (float[N,2] y) {
        shape = Shape(x) first = Constant<value_ints = [0]>() n = Gather(shape, first) m = Cast<to = 1>(n) y = Mul(x, m) }"""
    steps = """<ir_version: 8, opset_import: ["" : 13]> g (float[N,2] x) => (float[N,2] y) { y = Mul(x, w) }"""
    x = np.random.default_rng(0).normal(size=(2 * STEP, 2)).astype(np.float32)
    comparison = compare_models(model(steps, w=np.float32([STEP, STEP])), model(text), {"x": x})
    assert comparison.samples == 2 * STEP
    assert comparison.outputs[0].sqnr_db == 200


def test_first_difference_is_first_in_the_references_order() -> None:
    reference = {"a": Y, "b": Y, "c": Y}
    other = {"c": Y + 1, "b": Y + np.float32([[0, 0], [0.1, 0]]), "a": Y + 1e-7}
    found = first_difference(reference, other, 1e-3)
    assert found is not None
    assert (found.name, found.index) == ("b", (1, 0))
    assert found.max_error == pytest.approx(0.1)
    assert str(found).startswith("'b' differs by up to 0.1")
    assert first_difference(reference, {"a": Y}, 1e-3) is None


def test_tolerance_is_relative_to_the_largest_magnitude() -> None:
    assert first_difference({"a": Y * 1000}, {"a": Y * 1000 + 1}, 1e-3) is None
    assert first_difference({"a": Y * 1000}, {"a": Y * 1000 + 6}, 1e-3) is not None


@pytest.mark.parametrize(
    ("a", "b", "differ"),
    [
        ([np.nan, 1], [np.nan, 1], False),
        ([np.nan, 1], [0, 1], True),
        ([1, 1], [np.nan, 1], True),
        ([np.inf, 1], [np.inf, 1], False),
        ([np.inf, 1], [-np.inf, 1], True),
        ([1, 2], [[1, 2]], True),
    ],
)
def test_what_is_not_finite_must_be_the_same(a: list[float], b: list[float], differ: bool) -> None:
    assert (first_difference({"v": np.array(a)}, {"v": np.array(b)}, 1e-3) is not None) == differ
