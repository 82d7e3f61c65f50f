"""A handful of images made into as many as wanted (`--amplify`): the real ones stay, the others have their statistics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper
from small_bn_net import SHAPE, small_bn_net

from genie_onnx import DistillConfig, Event, QuantizeConfig, ReconstructConfig, quantize
from genie_onnx.config import PlacementConfig
from genie_onnx.events import Step
from genie_onnx.graph import fold_batchnorm, load, normalise
from genie_onnx.images.calibration import MADE_HEADROOM, Calibration, data_images, made_images
from genie_onnx.images.choice import choose_images, input_statistics
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import Prepared, prepare
from genie_onnx.run.directory import RunDirectory
from genie_onnx.synthesis import image_bytes, measure, procedural
from genie_onnx.synthesis.bn_loss import bn_loss, targets
from genie_onnx.synthesis.plausible import DEEPER

CPU = torch.device("cpu")
COMPUTE = Compute(CPU)
REFINE = QuantizeConfig(samples=24, distill=DistillConfig(refine_iterations=60, batch_size=24))
CONFIG = QuantizeConfig(
    samples=24, amplify=True, distill=DistillConfig(iterations=40, batch_size=16), reconstruct=ReconstructConfig(iterations=2)
)


@pytest.fixture(scope="module")
def folded() -> Prepared:
    return prepare(ir.to_proto(fold_batchnorm(normalise(load(small_bn_net())))), PlacementConfig())


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of stripes, in an input space that nobody told: not what procedural images are like."""
    path = tmp_path_factory.mktemp("data") / "few.npy"
    stripes = np.random.default_rng(5).standard_normal((8, 3, 16, 1)).repeat(16, axis=3)
    np.save(path, np.float32([-1, 0.5, 2]).reshape(3, 1, 1) + np.float32([0.3, 0.6, 0.9]).reshape(3, 1, 1) * stripes)
    return path


def directory(path: Path) -> RunDirectory:
    """An empty run directory, or one that is there."""
    run = RunDirectory(path)
    run.batches.parent.mkdir(parents=True, exist_ok=True)
    return run


def amplified(prepared: Prepared, config: QuantizeConfig, data: Path, run: Path) -> tuple[Calibration, Calibration]:
    """Return the given images and what is made of them."""
    choice = choose_images(prepared, config, [data])
    given = data_images(prepared, config, [data])
    return given, made_images(prepared, config, choice, given, directory(run), COMPUTE, lambda event: None)


def test_real_images_stay_and_set_the_ranges(folded: Prepared, few: Path, tmp_path: Path) -> None:
    given, calibration = amplified(folded, CONFIG, few, tmp_path)
    assert calibration.images.shape == (24, *SHAPE)
    assert torch.equal(calibration.images[:8], given.images)
    assert calibration.input_range == (float(given.images.min()), float(given.images.max()))
    assert calibration.headroom == 1.0 != MADE_HEADROOM
    assert calibration.held_back_kind == "procedural"


def test_made_images_have_the_statistics_of_the_given_ones(folded: Prepared, few: Path, tmp_path: Path) -> None:
    """Nearer to them than dead leaves of the same mean and deviation."""
    given, calibration = amplified(folded, CONFIG, few, tmp_path)
    made = calibration.images[8:]
    std, mean = torch.std_mean(given.images, (0, 2, 3))
    painted = procedural(16, SHAPE, mean=mean.tolist(), std=std.tolist(), generator=torch.Generator().manual_seed(0))
    values = tuple(folded.coverage.missing.values())
    assert len(values) == 2
    stored = targets(measure(folded.teacher, values, given.images, CPU), CPU)
    part = folded.teacher.extract(folded.teacher.inputs, values)
    losses = [bn_loss(list(part.module(images)), stored).item() for images in (made, painted)]
    assert losses[0] < 0.7 * losses[1]
    torch.testing.assert_close(made.mean((0, 2, 3)), mean, rtol=0, atol=0.2)


def refined(prepared: Prepared, run: Path, config: QuantizeConfig = REFINE) -> Calibration:
    choice = choose_images(prepared, config, ())
    assert choice.kind == "refined"
    return made_images(prepared, config, choice, None, directory(run), COMPUTE, lambda event: None)


def test_refined_images_have_plausible_statistics(folded: Prepared, tmp_path: Path) -> None:
    """They vary more in the last layer than procedural images do, by the factor that is measured of trained networks."""
    calibration = refined(folded, tmp_path / "refined")
    assert calibration.images.shape == (24, *SHAPE)
    assert calibration.headroom == MADE_HEADROOM
    painted = procedural(512, SHAPE, mean=None, std=None, generator=torch.Generator().manual_seed(3))
    values = tuple(folded.coverage.missing.values())
    ours, plain = (measure(folded.teacher, values, images, CPU)[-1].std for images in (calibration.images, painted))
    assert np.median(ours / plain) == pytest.approx(1 + DEEPER, rel=0.1)


def test_refined_images_have_the_statistics_that_are_known(tmp_path: Path) -> None:
    """Here those of a network that saw the last layer vary twice as much, which nothing plausible would say."""
    model = small_bn_net()
    (variance,) = [t for t in model.graph.initializer if t.name == "v2"]
    variance.CopyFrom(numpy_helper.from_array(4 * numpy_helper.to_array(variance), "v2"))
    prepared = prepare(model, PlacementConfig())
    images = refined(prepared, tmp_path / "refined", replace(REFINE, images="refine")).images
    painted = procedural(512, SHAPE, mean=None, std=None, generator=torch.Generator().manual_seed(3))
    value = prepared.statistics[-1].value
    ours, plain = (measure(prepared.teacher, (value,), made, CPU)[0].std for made in (images, painted))
    assert np.median(ours / plain) > 1.45  # 2 at the optimum, 1.25 if they were plausible


def test_refined_images_live_in_the_input_space_of_the_model(tmp_path: Path) -> None:
    config = replace(REFINE, mean=(0.1, 0.5, 0.9), std=(0.1, 1.0, 0.5))
    mean, std = input_statistics(SHAPE, config)
    assert mean is not None
    assert std is not None
    prepared = prepare(ir.to_proto(fold_batchnorm(normalise(load(small_bn_net(mean, std))))), PlacementConfig())
    known = choose_images(prepared, config, ())
    made = made_images(prepared, config, known, None, directory(tmp_path), COMPUTE, lambda event: None).images
    found = torch.stack([made.mean((0, 2, 3)), made.std((0, 2, 3))])
    torch.testing.assert_close(found, torch.tensor([mean, std]), rtol=0.2, atol=0.05)


@pytest.mark.parametrize("images", ["procedural", "refine"])
def test_made_images_have_no_pixels_that_nobody_could_have(folded: Prepared, tmp_path: Path, images: str) -> None:
    """Channel by channel: what 0 and 255 are in the first one is far outside in the last."""
    mean, std = (0.1, 0.5, 0.9), (0.1, 1.0, 0.5)
    config = QuantizeConfig(samples=24, images=images, distill=DistillConfig(refine_iterations=3), mean=mean, std=std)
    choice = choose_images(folded, config, ())
    calibration = made_images(folded, config, choice, None, directory(tmp_path), COMPUTE, lambda event: None)
    for made in (calibration.images, calibration.held_back):
        pixels = made * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
        assert float(pixels.min()) >= -1e-5
        assert float(pixels.max()) <= 1 + 1e-5
        assert bool((pixels.amin((0, 2, 3)) < 0.01).all())  # cut there, and not shrunk
    unknown = replace(config, mean=None, std=None)
    made = made_images(folded, unknown, choice, None, directory(tmp_path / "unknown"), COMPUTE, lambda event: None).images
    assert float(made.amax()) > 2.5  # where nobody said what pixels are


def batches(events: list[Event]) -> set[int]:
    """How many batches of images there are, by what was told."""
    return {event.count for event in events if isinstance(event, Step) and event.stage == "images"}


def test_detectors_are_refined_and_amplified_a_few_images_at_a_time(
    folded: Prepared, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [*folded.coverage.missing.values(), "scores"]
    monkeypatch.setattr("genie_onnx.images.distilled.BATCH_BYTES", 7 * image_bytes(folded.teacher, values, SHAPE))
    monkeypatch.setattr("genie_onnx.images.distilled.decisive", lambda scores: True)
    steps: list[Event] = []
    config = replace(REFINE, distill=replace(REFINE.distill, refine_iterations=1))
    choice = choose_images(folded, config, ())
    made_images(folded, config, choice, None, directory(tmp_path), COMPUTE, steps.append)
    assert batches(steps) == {4}  # 24 images, 7 at a time at most
    steps.clear()
    monkeypatch.setattr("genie_onnx.images.distilled.BATCH_BYTES", 7 * image_bytes(folded.teacher, values[:-1], SHAPE))
    brief = replace(CONFIG, distill=replace(CONFIG.distill, iterations=1))
    given = data_images(folded, brief, [few])
    made_images(folded, brief, choose_images(folded, brief, [few]), given, directory(tmp_path / "few"), COMPUTE, steps.append)
    assert batches(steps) == {3}  # the other 16


def test_outputs_that_choose_nothing_are_no_classes(folded: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Landmarks, embeddings: their images are refined towards the statistics alone."""
    made = []
    for verdict in (True, False):
        monkeypatch.setattr("genie_onnx.images.distilled.decisive", lambda scores, verdict=verdict: verdict)
        made.append(refined(folded, tmp_path / str(verdict)).images)
    found = [folded.network({"image": images})["scores"].softmax(1).mean(0).min() for images in made]
    assert found[0] > 1.5 * found[1]


def test_a_refined_run_goes_on_from_its_batches(folded: Prepared, tmp_path: Path) -> None:
    """Finished batches are read, not made again."""
    whole = refined(folded, tmp_path / "whole").images
    steps: list[Event] = []
    choice, run = choose_images(folded, REFINE, ()), directory(tmp_path / "whole")
    again = made_images(folded, REFINE, choice, None, run, COMPUTE, steps.append).images
    assert torch.equal(whole, again)
    assert not any(isinstance(step, Step) and step.stage == "images" for step in steps)
    assert not torch.equal(whole, refined(folded, tmp_path / "other", replace(REFINE, seed=1)).images)


def test_own_statistics_and_measured_ones_for_the_rest(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One BatchNorm folded, one kept (its input is read from outside): the first convolution is measured on the images."""
    half = normalise(load(small_bn_net()))
    kept = next(node for node in half.graph if node.outputs[0].name == "e")
    half.graph.outputs.append(kept.inputs[0])
    prepared = prepare(ir.to_proto(fold_batchnorm(half)), PlacementConfig())
    (own,) = prepared.statistics
    assert (own.value, list(prepared.coverage.missing.values())) == ("d", ["b"])
    asked: list[tuple[object, ...]] = []

    def painted(network: object, statistics: object, shape: object, samples: int, *rest: object, **more: object) -> torch.Tensor:
        asked.append((statistics, samples, more["mean"], more["std"]))
        return torch.zeros(samples, *SHAPE)

    monkeypatch.setattr("genie_onnx.images.distilled.distill", painted)
    given, calibration = amplified(prepared, CONFIG, few, tmp_path)
    ((statistics, samples, mean, std),) = asked
    first, second = statistics  # type: ignore[misc]
    assert first is own
    (measured,) = measure(prepared.teacher, ["b"], given.images, CPU)
    assert second.value == "b"
    np.testing.assert_array_equal(second.std, measured.std)
    assert samples == 16
    torch.testing.assert_close(torch.tensor(mean), given.images.mean((0, 2, 3)))
    torch.testing.assert_close(torch.tensor(std), given.images.std((0, 2, 3), correction=0))
    assert len(calibration.images) == 24


def test_nothing_is_measured_where_all_batchnorm_is_kept(few: Path, tmp_path: Path) -> None:
    """What is made are the images of a zero-shot run, in the input space of the given ones."""
    kept = prepare(small_bn_net(), PlacementConfig())
    config = replace(CONFIG, samples=10, distill=DistillConfig(iterations=1, batch_size=16))
    assert kept.coverage.missing == {}
    given, calibration = amplified(kept, config, few, tmp_path)
    assert calibration.images.shape == (10, *SHAPE)
    assert torch.equal(calibration.images[:8], given.images)


def test_a_whole_run_and_one_that_was_killed(few: Path, tmp_path: Path) -> None:
    model = tmp_path / "folded.onnx"
    onnx.save(ir.to_proto(fold_batchnorm(normalise(load(small_bn_net())))), model)
    config = replace(CONFIG, distill=DistillConfig(iterations=2, batch_size=8))
    whole = quantize(model, tmp_path / "whole.onnx", config=config, data=[few])
    assert (whole.report.images, whole.report.samples) == ("data+distilled", 24)
    assert whole.report.parity["ok"]
    with np.load(whole.run_dir / "images.npz") as arrays:
        assert str(arrays["kind"]) == "data+distilled"

    def stop_in_the_second_batch(event: Event) -> None:
        if isinstance(event, Step) and event.stage == "images" and event.index == 1:
            raise KeyboardInterrupt

    half = tmp_path / "half.onnx"
    with pytest.raises(KeyboardInterrupt):
        quantize(model, half, config=config, data=[few], progress=stop_in_the_second_batch)
    events: list[Event] = []
    quantize(model, half, config=config, data=[few], progress=events.append)
    assert {event.index for event in events if isinstance(event, Step) and event.stage == "images"} == {1}
    assert half.read_bytes() == whole.output.read_bytes()
