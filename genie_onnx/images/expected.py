"""What a network expects its convolutions to compute on real images, where no BatchNormalization tells it."""

from __future__ import annotations

from collections.abc import Callable

from genie_onnx.config import QuantizeConfig
from genie_onnx.events import Step
from genie_onnx.images.choice import input_statistics
from genie_onnx.images.likely_input import likely_statistics
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.seeds import stream
from genie_onnx.synthesis import BatchNormStatistics, plausible


def plausible_statistics(
    prepared: Prepared, config: QuantizeConfig, compute: Compute, progress: Callable[[Step], None]
) -> tuple[BatchNormStatistics, ...]:
    """Return statistics that all convolutions of `prepared.teacher` plausibly have on real images (synthesis.plausible).

    Where the model's input space is not known, it is that of `likely_statistics`.
    """
    scaling = input_statistics(prepared.shape, config)
    mean, std = scaling if scaling[0] is not None else likely_statistics(prepared, config)
    return plausible(
        prepared.teacher,
        convolved(prepared),
        prepared.shape,
        mean=mean,
        std=std,
        generator=stream(config.seed, "plausible"),
        device=compute.device,
        progress=progress,
    )


def convolved(prepared: Prepared) -> list[str]:
    """Return what the convolutions of `prepared.teacher` compute, in topological order."""
    coverage = prepared.coverage
    found = {value for node, value in (coverage.covered | coverage.missing).items() if node not in coverage.products}
    return [value for value in prepared.teacher.nodes if value in found]
