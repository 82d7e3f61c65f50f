"""Top-1 and top-5 against hand-made logits; the model is the identity."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from simulation import model

from genie_onnx.errors import DataError
from genie_onnx.validate import evaluate


def _model(shape: str = "N,8") -> onnx.ModelProto:
    text = f"""<ir_version: 8, opset_import: ["" : 13]>
        g (float[{shape}] x) => (float[{shape}] y, float[N,3] z) {{ y = Identity(x) z = Slice(x, start, end, axis) }}"""
    return model(text, start=np.int64([0]), end=np.int64([3]), axis=np.int64([1]))


SCORES = np.float32([[9, 8, 7, 6, 5, 4, 3, 2]] * 4)


def test_ranks() -> None:
    found = evaluate(_model(), [(SCORES, np.array([0, 1, 4, 5]))])
    assert (found.samples, found.top1, found.top5) == (4, 0.25, 0.75)


def test_batches_of_any_size_are_read_once() -> None:
    parts = iter([(SCORES[:1], np.array([0])), (SCORES[:3], np.array([0, 7, 7]))])
    found = evaluate(_model(), parts)
    assert (found.samples, found.top1) == (4, 0.5)


def test_constant_logits_answer_the_first_class_only() -> None:
    """A collapsed model must not look perfect."""
    found = evaluate(_model(), [(np.zeros((8, 8), np.float32), np.arange(8))])
    assert (found.top1, found.top5) == (1 / 8, 5 / 8)


def test_nan_is_never_right() -> None:
    assert evaluate(_model(), [(np.full((8, 8), np.nan, np.float32), np.arange(8))]).top1 == 0


def test_logits_may_have_two_more_axes() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]> g (float[N,8,1,1] x) => (float[N,8,1,1] y) { y = Neg(x) }"""
    found = evaluate(model(text), [(-SCORES[:, :, None, None], np.zeros(4, int))])
    assert (found.top1, found.top5) == (1.0, 1.0)


def test_an_output_may_be_named_and_few_classes_have_no_top5() -> None:
    found = evaluate(_model(), [(SCORES, np.array([0, 0, 1, 2]))], output="z")
    assert (found.top1, found.top5) == (0.5, None)
    assert found.to_json() == {"samples": 4, "top1": 0.5, "top5": None}


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(DataError, match="2 labels up to 1 for 4 images"):
        evaluate(_model(), [(SCORES, np.array([0, 1]))])
    with pytest.raises(DataError, match="labels up to 8 for 4 images and 8 classes"):
        evaluate(_model(), [(SCORES, np.array([0, 1, 2, 8]))])
    with pytest.raises(DataError, match="no labelled images"):
        evaluate(_model(), [])
    text = """<ir_version: 8, opset_import: ["" : 13]> g (float[N,1,4,4] x) => (float[N,1,4,4] y) { y = Neg(x) }"""
    with pytest.raises(DataError, match=r"'y' \(2, 1, 4, 4\); only classifiers"):
        evaluate(model(text), [(np.zeros((2, 1, 4, 4), np.float32), np.zeros(2, int))])
