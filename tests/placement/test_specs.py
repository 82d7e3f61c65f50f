"""What a Placement refuses to be."""

from __future__ import annotations

import re
from typing import Any

import pytest

from genie_onnx.placement import ActivationSpec, Placement, WeightSpec


def activation(**changes: Any) -> ActivationSpec:
    return ActivationSpec(**{"name": "a", "values": ("a", "b"), "roots": ("a",), "bits": 4, **changes})


def weight(**changes: Any) -> WeightSpec:
    return WeightSpec(**{"value": "w", "bits": 4, "axis": 0, "nodes": ("conv",), **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"bits": 1}, "'a' has 1 bits; 2..8 are possible"),
        ({"bits": 9}, "'a' has 9 bits; 2..8 are possible"),
        ({"name": "b"}, "group 'b' does not begin with the value it is named after: ('a', 'b')"),
        ({"values": ()}, "group 'a' does not begin with the value it is named after: ()"),
        ({"values": ("a", "b", "b")}, "group 'a' lists a value twice: ('a', 'b', 'b')"),
        ({"roots": ()}, "group 'a' has roots () that are not among its values ('a', 'b')"),
        ({"roots": ("c",)}, "group 'a' has roots ('c',) that are not among its values ('a', 'b')"),
    ],
)
def test_a_group_is_consistent(changes: dict[str, Any], text: str):
    with pytest.raises(ValueError, match=re.escape(text)):
        activation(**changes)


def test_a_weight_has_users():
    with pytest.raises(ValueError, match="weight 'w' is used by no node"):
        weight(nodes=())


@pytest.mark.parametrize(
    ("weights", "activations", "float_nodes", "text"),
    [
        ((), (activation(), activation(name="c", values=("c", "b"), roots=("c",))), {}, "values placed more than once: b"),
        ((weight(), weight(nodes=("gemm",))), (), {}, "values placed more than once: w"),
        ((weight(value="a"),), (activation(),), {}, "values placed more than once: a"),
        ((weight(), weight(value="v")), (), {}, "nodes placed more than once: conv"),
        ((weight(),), (), {"conv": "why"}, "nodes placed more than once: conv"),
    ],
)
def test_a_value_has_one_quantiser(weights: Any, activations: Any, float_nodes: Any, text: str):
    with pytest.raises(ValueError, match=re.escape(text)):
        Placement(weights=weights, activations=activations, float_nodes=float_nodes)


def test_look_up_by_value():
    placement = Placement(weights=(weight(),), activations=(activation(),), float_nodes={})
    assert placement.activation_of("b") is placement.activations[0]
    assert placement.activation_of("w") is None
    assert placement.weight_of("w") is placement.weights[0]
    assert placement.weight_of("a") is None
