"""How far the rounding of a layer may follow the moments of few images: the ridge that does best on images held back.

For each ridge the layer is solved on the moments of some images and judged, without a ridge, on those of the others. With 64
images of 7x7 positions a layer of 384 inputs has fewer independent columns than features: there a large ridge wins, and none
where a million columns tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from genie_onnx.closed_form.moments import Moments
from genie_onnx.closed_form.objective import Objective
from genie_onnx.closed_form.solve import Solution

RIDGES = (0.01, 0.1, 0.3, 1.0)


def best_ridge(
    weight: Tensor,
    train: Moments,
    held: Moments,
    rounded: Callable[[Moments, float], Solution],
    ridges: Sequence[float] = RIDGES,
) -> float:
    """Return the one of `ridges` whose rounding of `weight` [g, R, n], `rounded(train, ridge)`, is best on `held`."""
    split = held.split
    judge = Objective(held.H, split.apart(weight.double()) @ held.G, split)
    errors = torch.stack([judge(split.apart(rounded(train, ridge).weights)).sum() for ridge in ridges])
    return ridges[int(errors.argmin())]
