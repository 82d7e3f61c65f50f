"""Which codes meet which constraints, judged by the numbers alone."""

from __future__ import annotations

import numpy as np
import pytest

from genie_onnx.delivery.fitting import unmet
from genie_onnx.placement import ActivationSpec, Placement, WeightSpec
from genie_onnx.qparams import QParams, QTensor
from genie_onnx.reconstruct import Codes
from genie_onnx.targets import Constraints

MADE = Placement(
    weights=(WeightSpec(value="w", bits=4, axis=0, nodes=("conv",)),),
    activations=(
        ActivationSpec(name="x", values=("x",), roots=("x",), bits=8),
        ActivationSpec(name="v", values=("v",), roots=("v",), bits=4),
    ),
    float_nodes={},
)


def codes(weight: tuple[list[float], list[int]], x: tuple[float, int] = (0.5, 128), v: tuple[float, int] = (0.5, 0)) -> Codes:
    """The codes of MADE on grids (scale, zero point)."""
    scale, zero_point = (np.asarray(part) for part in weight)
    grid = QParams(bits=4, scale=scale.astype(np.float32), zero_point=zero_point.astype(np.int64), axis=0)
    values = {
        name: QParams(bits=bits, scale=np.asarray(s, np.float32), zero_point=np.asarray(z, np.int64))
        for name, bits, (s, z) in (("x", 8, x), ("v", 4, v))
    }
    return Codes(weights={"w": QTensor(codes=np.zeros((2, 3), np.uint8), qparams=grid)}, activations=values)


FITTING = codes(([0.25, 0.25], [8, 8]))


@pytest.mark.parametrize(
    ("constraints", "other", "said"),
    [
        (Constraints(weight_grid="symmetric"), codes(([0.25, 0.25], [8, 7])), "1 of 1 weights are not symmetric (first 'w')"),
        (Constraints(weight_scale="tensor"), codes(([0.25, 0.5], [8, 8])), "1 of 1 weights have a scale for each channel"),
        (Constraints(wide_values="symmetric"), codes(([0.25, 0.25], [8, 8]), x=(0.5, 127)), "1 of 1 values of 8 bits are not"),
        (Constraints(scales="power-of-two"), codes(([0.25, 0.3], [8, 8])), "1 of 3 scales are no powers of two (first 'w')"),
        (Constraints(scales="power-of-two"), codes(([0.25, 0.25], [8, 8]), v=(0.6, 0)), "no powers of two (first 'v')"),
        (
            Constraints(value_grid="unshifted"),
            codes(([0.25, 0.25], [8, 8]), v=(0.5, 3)),
            "1 of 2 values have zero points (first 'v')",
        ),
        (Constraints(weight_scale="mixed"), codes(([0.25, 0.5], [8, 8])), "1 of 1 weights have a scale for each channel"),
    ],
)
def test_numbers_that_do_not_fit(constraints: Constraints, other: Codes, said: str) -> None:
    assert unmet(MADE, FITTING, MADE, constraints) == []
    found = unmet(MADE, other, MADE, constraints)
    assert len(found) == 1
    assert said in found[0]


def test_scales_of_channels_are_mixed_with_those_of_tensors_by_layer() -> None:
    weights = (WeightSpec(value="w", bits=4, axis=0, nodes=("conv",), ungrouped=True),)
    made = Placement(weights=weights, activations=MADE.activations, float_nodes={})
    assert unmet(made, codes(([0.25, 0.5], [8, 8])), made, Constraints(weight_scale="mixed")) == []


def test_bits_and_places() -> None:
    assert "values have other bits than 8..8 (first 'v')" in unmet(MADE, FITTING, MADE, Constraints(value_bits=(8, 8)))[0]
    fewer = Placement(weights=MADE.weights, activations=MADE.activations[:1], float_nodes={})
    assert unmet(MADE, FITTING, fewer, Constraints()) == ["1 of 2 values are rounded here and not there (first 'v')"]
    assert unmet(fewer, FITTING, MADE, Constraints()) == ["1 of 2 values are rounded there and not here (first 'v')"]


def test_a_grid_that_is_shared_there_alone() -> None:
    together = ActivationSpec(name="x", values=("x", "v"), roots=("x",), bits=8)
    wanted = Placement(weights=MADE.weights, activations=(together,), float_nodes={})
    assert unmet(MADE, FITTING, wanted, Constraints()) == ["1 of 2 values share a grid there and have several here (first 'v')"]
    assert unmet(wanted, FITTING, MADE, Constraints()) == []  # what shares one may as well be written down twice
