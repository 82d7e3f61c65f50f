"""A user's own metric: a function, a class, and what neither may return."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from genie_onnx.errors import DataError
from genie_onnx.validate import Measured

NAMES = {"names": np.array(["a", "b"])}


def error(outputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"error": np.abs(outputs["y"] - targets["truth"]).mean(1)}


class Largest:
    """The largest output of all, which is no mean; and a number of each sample besides."""

    def __init__(self) -> None:
        self.found = -np.inf

    def update(self, outputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
        self.found = max(self.found, float(outputs["y"].max()))
        return {"first": outputs["y"][:, 0].tolist()}

    def result(self) -> dict[str, float]:
        return {"largest": self.found}


def told(metric: Callable, *outputs: list[list[float]]) -> Measured:
    found = Measured(metric)
    for batch in outputs:
        found.add({"y": np.array(batch)}, {**NAMES, "truth": np.zeros((2, 2))})
    return found


def test_a_function_gives_numbers_of_each_sample() -> None:
    first, other = told(error, [[1, 1], [2, 2]], [[3, 3], [4, 4]]), told(error, [[2, 2], [3, 3]], [[4, 4], [5, 5]])
    assert first.columns["error"].tolist() == [1, 2, 3, 4]
    assert first.figures()["error"].value == 2.5
    pair = other.against(first)["error"]
    assert (pair.value, pair.low, pair.high, pair.p_value) == (1, 1, 1, None)  # of the same samples: no spread at all


def test_a_class_has_an_object_for_each_model() -> None:
    first, other = told(Largest, [[1, 7], [2, 2]]), told(Largest, [[1, 3], [5, 2]])
    assert {name: figure.value for name, figure in first.figures().items()} == {"first": 1.5, "largest": 7}
    found = other.against(first)
    assert (found["largest"].value, found["largest"].low) == (-2, None)
    assert found["first"].value == 1.5


@pytest.mark.parametrize("result", [None, 3.0, {"x": "high"}])
def test_a_result_that_is_no_number(result: object) -> None:
    metric = type("Bad", (), {"update": lambda self, outputs, targets: None, "result": lambda self: result})
    with pytest.raises(DataError, match=r"result\(\) of the metric 'Bad' must return numbers by name, not "):
        told(metric, [[1, 1]]).figures()


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (lambda outputs, targets: {"x": [1.0]}, r"'x' of shape \(1,\) for 2 samples"),
        (lambda outputs, targets: {"x": ["a", "b"]}, "that is not numbers"),
        (lambda outputs, targets: 3.0, "by name, not float"),
        (lambda outputs, targets: {str(outputs["y"][0, 0]): [1, 2]}, r"returned \['2'\], and \['1'\] before"),
        (lambda outputs, targets: {"x": [1, 2]} if outputs["y"][0, 0] > 1 else None, r"returned \['x'\], and \[\] before"),
        (object, "has no method update and no method result"),
    ],
)
def test_what_is_no_metric(metric: Callable, said: str) -> None:
    with pytest.raises(DataError, match=said):
        told(metric, [[1, 1], [1, 1]], [[2, 2], [2, 2]])
