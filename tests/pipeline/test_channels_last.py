"""Models whose input is [N, H, W, C], whole runs: the same numbers as of the same network with its channels first."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from channels_last_nets import LAST, net
from click.testing import CliRunner, Result
from genie_onnx_cli.main import main
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from PIL import Image

import genie_onnx
from genie_onnx import ConfigError, DistillConfig, PlacementConfig, QuantizeConfig, ReconstructConfig
from genie_onnx.data import load_images
from genie_onnx.images.calibration import data_images
from genie_onnx.preparation.prepare import prepare
from genie_onnx.preprocessing import Preprocessing
from genie_onnx.reconstruct import load
from genie_onnx.run.directory import RunDirectory
from genie_onnx.validate import Session

SIZE = (12, 16)
PIXELS = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}  # the networks scale 0..255 by themselves


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 40 pictures larger than the input, whose colours and whose corners differ."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    across, down = np.meshgrid(np.linspace(0, 1, 32), np.linspace(0, 1, 24))
    for index in range(40):
        a, b, c = rng.uniform(0.2, 1, 3)
        picture = np.stack([a * across, b * down, c * (1 - across * down)], -1)[:: rng.choice([-1, 1])]
        noisy = 255 * np.clip(picture + rng.normal(0, 0.05, picture.shape), 0, 1)
        Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{index:02}.png")
    return folder


def settings(wbits: int = 4, abits: int = 4, **more: object) -> QuantizeConfig:
    quick = ReconstructConfig(iterations=4, batch_size=8)
    return QuantizeConfig(placement=PlacementConfig(wbits=wbits, abits=abits), reconstruct=quick, samples=24, **PIXELS, **more)  # type: ignore[arg-type]


def save(kind: str, folder: Path) -> Path:
    onnx.save(net(kind), folder / "m.onnx")
    return folder / "m.onnx"


def weights_of(result: genie_onnx.Result) -> dict[str, np.ndarray]:
    run = RunDirectory(result.run_dir)
    codes = [load(path) for path in map(run.block, range(len(result.report.blocks))) if path.exists()]
    return {name: weight.dequantize() for block in codes for name, weight in block.weights.items()}


def fed(run: Path, kind: str) -> np.ndarray:
    with np.load(RunDirectory(run).images) as arrays:
        images = np.concatenate([arrays["images"], arrays["held_back"]])
    return images if kind == "first" else np.ascontiguousarray(images.transpose(0, 2, 3, 1))


@pytest.fixture(scope="module")
def first(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> genie_onnx.Result:
    """The network with its channels first, quantised with the pictures."""
    return genie_onnx.quantize(save("first", tmp_path_factory.mktemp("first")), data=photos, config=settings())


@pytest.mark.parametrize("kind", LAST)
def test_pictures_from_a_folder(kind: str, photos: Path, first: genie_onnx.Result, tmp_path: Path) -> None:
    """Calibrated on the very images, folded to the very layers; the file has the user's interface, and computes the same."""
    size = SIZE if kind == "open" else None
    result = genie_onnx.quantize(save(kind, tmp_path), data=photos, config=settings(), input_size=size)
    with np.load(RunDirectory(result.run_dir).images) as ours, np.load(RunDirectory(first.run_dir).images) as theirs:
        np.testing.assert_array_equal(ours["images"], theirs["images"])
    proto, user = onnx.load(result.output), net(kind)
    assert [v.name for v in proto.graph.input] == ["x"]
    assert proto.graph.input[0].type == user.graph.input[0].type
    assert proto.graph.output[0].type == user.graph.output[0].type
    assert result.report.parity["ok"]
    assert set(result.report.weights) == {"w1", "w2", "w3", "w4"}
    found, wanted = weights_of(result), weights_of(first)
    assert set(wanted) == {"w1", "w2", "w3", "w4"}
    for name, weight in wanted.items():
        np.testing.assert_allclose(found[name], weight, atol=1e-3 * np.abs(weight).max(), err_msg=name)
    images = fed(first.run_dir, kind)
    if kind == "fixed batch":
        images = images[:1]
    ours_out = Session(result.output)({"x": images})["scores"]
    theirs_out = Session(first.output)({"x": fed(first.run_dir, "first")[: len(images)]})["scores"]
    np.testing.assert_allclose(ours_out, theirs_out, atol=0.02 * float(np.ptp(theirs_out)))
    float_out = Session(tmp_path / "m.onnx")({"x": images})["scores"]
    assert np.square(ours_out - float_out).mean() < 0.1 * float_out.var()


@pytest.mark.parametrize(("kind", "wbits", "abits"), [("keras", 4, 4), ("jax", 8, 8), ("jax", 4, 4)])
def test_without_data(kind: str, wbits: int, abits: int, tmp_path: Path) -> None:
    """Images are made as pictures: distilled where BatchNormalization is kept."""
    config = settings(wbits, abits, distill=DistillConfig(iterations=4, start="leaves", batch_size=12))
    result = genie_onnx.quantize(save(kind, tmp_path), config=config)
    assert result.report.images == ("distilled" if kind == "jax" else "refined")
    assert result.report.parity["ok"]
    assert not any("features" in notice for notice in result.report.notices)
    with np.load(RunDirectory(result.run_dir).images) as arrays:
        images = arrays["images"]
    assert images.shape == (24, 3, 12, 16)
    assert np.abs(np.diff(images, axis=3)).mean() < 0.5 * images.std()  # pictures are smooth; colours beside each other are not


def test_distilled_as_with_channels_first(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    config = QuantizeConfig(images="distill", samples=8, distill=DistillConfig(iterations=3, start="leaves"), **PIXELS)  # type: ignore[arg-type]
    made = []
    for path in (save("jax", tmp_path), save("first", tmp_path / "first")):
        run = genie_onnx.distill(path, path.parent / "made", config=config)
        with np.load(run.images) as arrays:
            made.append(arrays["images"])
    np.testing.assert_allclose(made[0], made[1], atol=0.5)  # of 255


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_colours_are_prepared_each_for_itself(order: str, photos: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(settings(), mean=(0.1, 0.2, 0.3), std=(0.1, 0.2, 0.4))
    config = dataclasses.replace(config, channel_order=order, framing=genie_onnx.Framing(crop=SIZE))  # type: ignore[arg-type]
    found = []
    for kind in ("first", "keras"):
        (tmp_path / kind).mkdir()
        found.append(data_images(prepare(save(kind, tmp_path / kind), PlacementConfig()), config, [photos]).images)
    assert found[1].shape == (24, 3, 12, 16)
    np.testing.assert_array_equal(found[1], found[0])


def test_arrays_are_in_the_layout_of_the_model(tmp_path: Path) -> None:
    """Also where they could be in either: three channels, rows and columns."""
    rows = np.random.default_rng(1).normal(size=(5, 3, 3, 3)).astype(np.float32)
    np.savez(tmp_path / "x.npz", images=rows)
    np.savez(tmp_path / "run.npz", images=rows, layout="nchw")
    np.testing.assert_array_equal(load_images([tmp_path / "x.npz"], (3, 3, 3)).numpy(), rows)
    turned = load_images([tmp_path / "x.npz"], (3, 3, 3), layout="nhwc").numpy()
    np.testing.assert_array_equal(turned, rows.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(load_images([tmp_path / "run.npz"], (3, 3, 3), layout="nhwc").numpy(), rows)


def test_images_of_a_run_serve_the_same_model(first: genie_onnx.Result, tmp_path: Path) -> None:
    """As arrays that are in the model's layout do."""
    run = RunDirectory(first.run_dir)
    np.savez(tmp_path / "own.npz", images=fed(first.run_dir, "keras")[:24])
    prepared = prepare(save("keras", tmp_path), PlacementConfig())
    ours, theirs = (data_images(prepared, settings(), [path]).images.numpy() for path in (tmp_path / "own.npz", run.images))
    np.testing.assert_array_equal(ours, theirs)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def test_every_command_takes_the_file(photos: Path, tmp_path: Path) -> None:
    model = save("keras", tmp_path)
    pixels = ("--mean", 0, "--std", 0.00392157)
    shown = call("inspect", model)
    assert "input   x [N, 12, 16, 3]   channels last   fixed: height 12, width 16" in shown.stdout
    assert json.loads(call("inspect", model, "--json").stdout)["layout"] == "nhwc"
    made = call("quantize", model, "--data", photos, "--samples", 16, "--recon-iters", 2, "--abits", 8, *pixels, "-q")
    assert made.exit_code == 0, made.output
    quantized = tmp_path / "m.quant.onnx"
    verified = call("verify", quantized, "--with", "onnxruntime", "--data", photos, *pixels, "-q", "--json")
    assert json.loads(verified.stdout)["ok"]
    compared = json.loads(call("compare", model, quantized, "--data", photos, "-q", "--json").stdout)
    assert compared["outputs"][0]["sqnr_db"] > 15
    assert compared["images"] == "data"
    exported = call("export", tmp_path / "m.quant.genie", "--target", "int4", "-q")
    assert exported.exit_code == 0, exported.output
    reported = call("report", tmp_path / "m.quant.genie")
    assert reported.exit_code == 0, reported.output


def test_targets_with_fixed_shapes_fix_the_layout_of_the_model(photos: Path, tmp_path: Path) -> None:
    fixed = [t for t in genie_onnx.TARGETS.values() if t.form.batch == "fixed"]
    config = settings(8, 8, target=fixed[0])
    result = genie_onnx.quantize(save("open", tmp_path), data=photos, config=config, input_size=SIZE)
    dims = onnx.load(result.output).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [1, 12, 16, 3]


def test_a_run_goes_on_only_in_its_layout(tmp_path: Path) -> None:
    """[N, 3, 3, 3] could be either: the word of the user counts, and is held by the run directory."""
    model = net("keras")
    for dim in model.graph.input[0].type.tensor_type.shape.dim[1:3]:
        dim.dim_value = 3
    onnx.save(model, tmp_path / "m.onnx")
    assert prepare(tmp_path / "m.onnx", PlacementConfig()).layout == "nhwc"
    assert prepare(tmp_path / "m.onnx", PlacementConfig(), layout="nchw").layout == "nchw"
    config = QuantizeConfig(images="procedural", samples=8, reconstruct=ReconstructConfig(iterations=0))
    genie_onnx.quantize(tmp_path / "m.onnx", config=config)
    with pytest.raises(ConfigError, match="--layout was nhwc and is now not given"):
        genie_onnx.quantize(tmp_path / "m.onnx", config=dataclasses.replace(config, layout="nchw"))


def test_preprocessing_that_fits_better_is_named(photos: Path, tmp_path: Path) -> None:
    """A Rescaling in the network: it takes 0..255."""
    model = net("jax")
    images = np.stack([np.asarray(Image.open(p).resize((16, 12))) for p in sorted(photos.iterdir())]).astype(np.float32)
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    extended.graph.output.append(onnx.helper.make_tensor_value_info("d", onnx.TensorProto.FLOAT, None))
    seen = Session(extended)({"x": images})["d"]
    for name, moment in (("m2", seen.mean((0, 2, 3))), ("v2", seen.var((0, 2, 3)))):
        stored = next(t for t in model.graph.initializer if t.name == name)
        stored.CopyFrom(onnx.numpy_helper.from_array(moment.astype(np.float32), name))
    onnx.save(model, tmp_path / "m.onnx")
    todo = genie_onnx.plan(tmp_path / "m.onnx", data=photos, config=QuantizeConfig(samples=24))
    assert any("prepared as 0..255 they come nearer" in notice for notice in todo.notices)
    assert not any("come nearer" in n for n in genie_onnx.plan(tmp_path / "m.onnx", data=photos, config=settings()).notices)


@pytest.mark.parametrize("kind", ["keras", "keras torch"])
def test_a_file_of_another_tool_is_compared_with_the_graph_as_it_was(kind: str, photos: Path, tmp_path: Path) -> None:
    """It has the Transposes and the arithmetic still, and weights that nothing was folded into."""
    model = save(kind, tmp_path)
    shown = load_images([photos], (3, 12, 16), Preprocessing(mean=(0.0,), std=(1 / 255,))).numpy().transpose(0, 2, 3, 1)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"x": np.ascontiguousarray(image[None])} for image in shown]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.left.pop() if self.left else None

    quantize_static(model, tmp_path / "other.onnx", Reader(), quant_format=QuantFormat.QDQ, per_channel=True)
    found = genie_onnx.compare(model, tmp_path / "other.onnx", data=photos, mean=(0,), std=(1 / 255,), effects=False)
    assert found.outputs[0].sqnr_db > 10
    assert min(weight.sqnr_db for weight in found.weights) > 30
    assert min(value.sqnr_db for value in found.values) > 10
