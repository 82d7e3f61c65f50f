"""Does the preprocessing fit the model? Its first BatchNorm layers store what they saw in training; pictures show what they see.

pictures at 0..1, each usual preprocessing -> statistics of what enters the first layers -> how far they are from the stored ones

    misfit = mean over layers and channels of   o^2 / (1 + o^2) + d^2,   o = (mu - mu_l) / (sigma + sigma_l),
                                                                        d = (sigma - sigma_l) / (sigma + sigma_l)

Seven published models were tried with photographs: what is wrong was mostly 1.2 to 25 times as far off as what is right. Two of
COMMON can come out nearly equal (a MobileNet), so only a clearly nearer one is named (NEARER), and as a possibility. The order of
channels shows too little to be told from it (1.0 to 1.9 times).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from genie_onnx.prepare import Prepared
from genie_onnx.synthesis import measure, with_measurements

LAYERS, PICTURES = 3, 16  # looked at
NEARER = 0.7  # times the misfit of what was given: from there on another preprocessing is worth a word
COMMON: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {  # mean and std on pixels of 0..1 (data.Preprocess)
    "0..1": ((0.0,), (1.0,)),
    "-1..1": ((0.5,), (0.5,)),
    "torchvision's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "0..255": ((0.0,), (0.003922,)),
    "-128..127": ((0.5,), (0.003922,)),
}


def better_input(prepared: Prepared, images: Tensor, mean: Sequence[float], std: Sequence[float]) -> str | None:
    """Say which preprocessing fits the model much better than `mean` and `std`; None where none does, or nothing is known.

    `images`: pictures prepared with `mean` and `std`, float32 [N, C, H, W]; the first PICTURES count.
    """
    layers = with_measurements(prepared.statistics)[:LAYERS]
    if not layers:
        return None
    images = images[:PICTURES]
    pixels = images * _channels(std) + _channels(mean)

    def misfit(shown: Tensor) -> float:
        found = {m.value: m for m in measure(prepared.teacher, [b.value for b in layers], shown, torch.device("cpu"))}
        pairs = [(found[b.value], b) for b in layers if b.value in found]
        return float(np.mean([_distance(now.mean, now.std, then.mean, then.std) for now, then in pairs]))

    possible = {name: space for name, space in COMMON.items() if len(space[0]) in (1, pixels.shape[1])}
    misfits = {name: misfit((pixels - _channels(mean)) / _channels(std)) for name, (mean, std) in possible.items()}
    best, given = min(misfits, key=lambda name: misfits[name]), misfit(images)
    if not misfits[best] < NEARER * given:
        return None
    mean_text, std_text = (",".join(f"{number:g}" for number in numbers) for numbers in COMMON[best])
    return (
        f"Prepared like this, the pictures do not give the model's first layers what they saw in training (misfit {given:.2g}); "
        f"prepared as {best} they come nearer ({misfits[best]:.2g}). If that is what the model takes: "
        f"--mean {mean_text} --std {std_text}"
    )


def _channels(numbers: Sequence[float]) -> Tensor:
    """Return [C or 1, 1, 1]."""
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1)


def _distance(mean: np.ndarray, std: np.ndarray, stored_mean: np.ndarray, stored_std: np.ndarray) -> float:
    """Return the misfit of one layer from moments [C], 0 (none) to 2."""
    spread = std + stored_std
    off, wider = (mean - stored_mean) / spread, (std - stored_std) / spread
    return float((off**2 / (1 + off**2) + wider**2).mean())
