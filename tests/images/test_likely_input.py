"""The first BatchNorm layers tell how pictures have to be prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_bn_net import SHAPE, small_bn_net
from torch import Tensor

from genie_onnx import PlacementConfig, QuantizeConfig
from genie_onnx.data.preprocess import PHOTOGRAPH_MEAN, PHOTOGRAPH_STD
from genie_onnx.images.calibration import made_images
from genie_onnx.images.choice import choose_images
from genie_onnx.images.likely_input import COMMON, better_input, likely_statistics, painted_input
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import Prepared, prepare
from genie_onnx.run.directory import RunDirectory
from genie_onnx.synthesis import procedural


def trained_on(mean: Sequence[float], std: Sequence[float]) -> Prepared:
    """A network whose BatchNorm saw photographs that were prepared with `mean` and `std`."""
    moments = [((p - m) / s, d / s) for p, d, m, s in zip(PHOTOGRAPH_MEAN, PHOTOGRAPH_STD, 3 * mean, 3 * std, strict=False)]
    return prepare(small_bn_net(*zip(*moments, strict=True)), PlacementConfig())


def pictures() -> Tensor:
    """Dead leaves with the statistics of photographs, 0..1."""
    generator = torch.Generator().manual_seed(0)
    return procedural(16, SHAPE, mean=PHOTOGRAPH_MEAN, std=PHOTOGRAPH_STD, generator=generator).clamp(0, 1)


@pytest.mark.parametrize("wanted", ["0..1", "-1..1", "0..255", "-128..127"])
def test_what_fits_is_said_and_only_where_another_was_given(wanted: str) -> None:
    mean, std = COMMON[wanted]
    prepared = trained_on(mean, std)
    for name, given in COMMON.items():
        shift, scale = (torch.tensor(numbers).view(-1, 1, 1) for numbers in given)
        hint = better_input(prepared, (pictures() - shift) / scale, *given)
        if name == wanted:
            assert hint is None
        else:
            assert hint is not None
            assert hint.endswith(f"--mean {mean[0]:g} --std {std[0]:g}")


def test_nothing_is_known_without_statistics() -> None:
    prepared = prepare(small_bn_net(), PlacementConfig())
    bare = Prepared(**{**vars_of(prepared), "batchnorms": ()})
    assert better_input(bare, pictures(), (0.0,), (1.0,)) is None


@pytest.mark.parametrize("wanted", ["0..1", "0..255", "torchvision's"])
def test_painted_images_are_made_in_the_space_that_fits(wanted: str, tmp_path: Path) -> None:
    mean, std = COMMON[wanted]
    prepared = trained_on(mean, std)
    config = QuantizeConfig(images="procedural", samples=8)
    choice = choose_images(prepared, config, [])
    run = RunDirectory(tmp_path)
    made = made_images(prepared, config, choice, None, run, Compute(torch.device("cpu")), lambda step: None)
    (notice,) = [n for n in choice.notices if n.startswith("Procedural images are given")]
    if wanted == "torchvision's":
        assert "misfit" not in notice
        assert min(made.held_back.min(), made.images.min()) < -1
        assert likely_statistics(prepared, config) == ((0.0,) * 3, (1.0,) * 3)
        return
    assert f"{wanted} comes nearer" in notice
    assert notice.endswith(f"and the images are made so: --mean {mean[0]:g} --std {std[0]:g}")
    for images in (made.images, made.held_back):
        assert images.min() >= 0
        assert images.max() == pytest.approx(1 / std[0], rel=0.1)
    assert made.input_range == (0, pytest.approx(1 / std[0], rel=0.1))
    expected = tuple(tuple(number / std[0] for number in numbers) for numbers in (PHOTOGRAPH_MEAN, PHOTOGRAPH_STD))
    assert likely_statistics(prepared, config) == tuple(map(pytest.approx, expected))
    told = QuantizeConfig(images="procedural", samples=8, mean=(0.0,), std=(1.0,))
    assert painted_input(prepared, told) is None


def vars_of(prepared: Prepared) -> dict[str, object]:
    return {name: getattr(prepared, name) for name in prepared.__dataclass_fields__}


@pytest.mark.slow
def test_a_published_detector_on_photographs(bench: Path) -> None:
    prepared = prepare(str(bench / "zoo" / "version-RFB-320.onnx"), PlacementConfig())
    photos = [bench / "samples" / "faces"]
    *_, hint = choose_images(prepared, QuantizeConfig(samples=24), photos).notices
    assert "--mean 0.5 --std 0.5" in hint
    right = QuantizeConfig(samples=24, mean=(0.498,), std=(0.502,))
    assert choose_images(prepared, right, photos).notices == ()


def test_nothing_is_painted_where_nothing_is_known_or_a_picture_is_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genie_onnx.images.likely_input.procedural", lambda *_, **__: pytest.fail("painted"))
    known = prepare(small_bn_net(), PlacementConfig())
    for changed in (replace(known, batchnorms=()), replace(known, shape=(3, 2**11, 2**11))):
        assert painted_input(changed, QuantizeConfig()) is None
