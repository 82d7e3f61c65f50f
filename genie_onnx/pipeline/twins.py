"""The two networks that go through a run side by side: the float one, and the one whose weights are rounded.

deploy graph                    -> float network                  -> with made images: brought to BatchNorm's statistics
deploy graph with its channels equalised -> network to be rounded -> by the same affines, at its own scale
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from genie_onnx import graph
from genie_onnx.config import ClosedFormConfig, QuantizeConfig
from genie_onnx.events import Step, Tally
from genie_onnx.images.choice import Choice
from genie_onnx.images.expected import plausible_statistics
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.reconstruct import Affine, Twin, affines, with_affines

# MobileNetV1 W4A8, painted images: 73.0 %, and 72.0 with ridges that are chosen on held-back (painted) ones. Distilled ones tell:
# W3A8 67.6 % with chosen ridges, 63.6 with this one; W4A4 60.2 and 61.4
PAINTED_RIDGE = 0.3
# Values that were brought to the mean and deviation of real ones reach about as far. MobileNetV1, painted images, W4A8: 73.8 %
# with 1, 73.2 with 2; CIFAR ResNet-20, W4A4: 91.4 / 80.04 with 1.25, 91.05 / 80.20 with 2 (two seeds)
MATCHED_HEADROOM = 1.25


def headroom(found: Mapping[str, Affine], made: float) -> float:
    """Return how much further than made images real ones reach inside, where that is `made` without the affines `found`."""
    return min(made, MATCHED_HEADROOM) if found else made


def closed_form_for(choice: Choice, config: ClosedFormConfig | None) -> ClosedFormConfig | None:
    """Return the settings of closed form for these images: painted ones cannot tell how far to trust painted ones."""
    painted = choice.made and "procedural" in choice.images.split("+")
    if config is None or config.ridge is not None or not painted:
        return config
    return replace(config, ridge=PAINTED_RIDGE)


def matching_affines(
    prepared: Prepared,
    config: QuantizeConfig,
    choice: Choice,
    images: torch.Tensor,
    compute: Compute,
    progress: Callable[[Step], None],
) -> dict[str, Affine]:
    """Return what brings made `images` [N, C, H, W] to the statistics that are known, else to plausible ones, by value of the
    deploy graph; none for images that somebody took."""
    if not choice.made:
        return {}
    known = graph.deployed_statistics(prepared.normalised, prepared.deploy, prepared.statistics)
    if not known:
        known = {m.value: (m.mean, m.std) for m in plausible_statistics(prepared, config, compute, progress)}
    if not known:
        return {}
    statistics = {value: (torch.tensor(mean), torch.tensor(std)) for value, (mean, std) in known.items()}
    tell = Tally(progress, Step(stage="statistics", iterations=len(statistics)))

    def found() -> dict[str, Affine]:
        made = affines(prepared.network, statistics, images, compute, tell)
        return {value: Affine(affine.a.cpu(), affine.b.cpu()) for value, affine in made.items()}

    return compute.team.once(found)


def networks(prepared: Prepared, found: Mapping[str, Affine]) -> tuple[Network, Twin]:
    """Return the network to be rounded and the float one, both with the affines `found`."""
    factors = {value: torch.from_numpy(own) for value, own in prepared.factors.items()}
    scaled = {value: affine.scaled(factors[value]) if value in factors else affine for value, affine in found.items()}
    return with_affines(prepared.network, scaled), Twin(with_affines(prepared.float_network, found), factors)
