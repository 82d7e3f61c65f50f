"""`compare`: it names the block that was damaged, on the shipped example, and takes what users have."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from genie_onnx_cli.main import main
from simulation import quantised

import genie_onnx
from genie_onnx import ConfigError, LayerBits, ModelError, PlacementConfig, QuantizeConfig, Step, graph
from genie_onnx.blocks import partition
from genie_onnx.comparison import comparison
from genie_onnx.placement import place

EXAMPLES = Path(__file__).parents[2] / "examples"
DIGITS, IMAGES = EXAMPLES / "digits.onnx", EXAMPLES / "digits_test.npz"
BLOCKS = {block.name: block for block in partition(graph.fold_batchnorm(graph.check(graph.load(DIGITS)))) if block.weights}
LAYERS = {node.name for node in onnx.load(DIGITS).graph.node if node.op_type in ("Conv", "Gemm")}


@pytest.fixture(scope="module")
def calibration() -> dict[str, np.ndarray]:
    """Images that grids are made for."""
    return {"image": np.load(IMAGES)["images"][:64].astype(np.float32)}


def as_pixels(images: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return uint8 [N, H, W, 1], and the mean and deviation with which they are `images` again."""
    low, width = float(images.min()), float(np.ptp(images))
    pixels = np.rint(255 * (images - low) / width).astype(np.uint8)
    return pixels.transpose(0, 2, 3, 1), -low / width, 1 / width


def damaged(folder: Path, calibration: dict[str, np.ndarray], block: str, wbits: int) -> Path:
    """Write the example with `wbits` bits for the weights of one block, and 8 for everything else."""
    bits = tuple(LayerBits(pattern=node, wbits=wbits, abits=8) for node in BLOCKS[block].nodes if node in LAYERS)
    config = PlacementConfig(wbits=8, abits=8, layer_bits=bits)
    _, mean, std = as_pixels(calibration["image"])
    case = quantised(
        onnx.load(DIGITS),
        lambda deploy: place(deploy, config),
        calibration,
        metadata={
            "settings": genie_onnx.to_json(QuantizeConfig(placement=config, mean=(mean,), std=(std,))),
            "images": "data",
        },
    )
    path = folder / "digits.quant.onnx"
    onnx.save(case.proto, path)
    return path


@pytest.mark.parametrize("effects", [True, False])
@pytest.mark.parametrize("block", BLOCKS)
def test_the_damaged_block_is_named(block: str, effects: bool, tmp_path: Path, calibration: dict[str, np.ndarray]) -> None:
    path = damaged(tmp_path, calibration, block, 2)
    found = genie_onnx.compare(DIGITS, path, data=IMAGES, samples=16, effects=effects)
    assert found.diagnosis[0].block == block
    assert f"'{block}'" in found.diagnosis[0].text
    assert found.blocks[0].block == block
    assert found.blocks[0].wbits == 2
    asked = shlex.split(found.diagnosis[0].command)
    weighted = [node for node in BLOCKS[block].nodes if node in LAYERS]
    assert {word for word in asked if "=" in word} == {f"{node}=4/8" for node in weighted}
    worst = found.weights[0]
    assert (worst.block, worst.bits) == (block, 2)
    if effects:
        share, alone, all_but = found.blocks[0].share, found.blocks[0].alone, found.blocks[0].all_but
        assert share is not None and alone is not None and all_but is not None  # noqa: PT018
        assert share > 0.9
        assert all_but.sqnr_db > alone.sqnr_db + 10
        assert sum(b.share or 0 for b in found.blocks) == pytest.approx(1)


def test_a_file_with_8_bits_everywhere_needs_nothing(tmp_path: Path, calibration: dict[str, np.ndarray]) -> None:
    steps: list[Step] = []
    path = damaged(tmp_path, calibration, next(iter(BLOCKS)), 8)
    found = genie_onnx.compare(DIGITS, path, data=IMAGES, samples=32, progress=steps.append)
    assert "nothing to do" in found.diagnosis[0].text
    assert (found.samples, found.effect_samples, found.images) == (32, 32, "data")
    assert found.notices == ()
    assert {step.stage for step in steps} == {"values", "effects"}
    assert steps[-1].iteration == steps[-1].iterations
    assert json.loads(json.dumps(found.to_json()))["values"][0]["histogram"]


@pytest.mark.parametrize(
    ("quality", "contradicted"),
    [
        ({"level": "usable", "verdict": "usable: output 'logits' is at 18.0 dB"}, True),
        ({"level": "good", "verdict": "good"}, False),
        (["of another tool"], False),
    ],
)
def test_what_the_file_says_of_itself_is_not_contradicted(
    quality: object, contradicted: bool, tmp_path: Path, calibration: dict[str, np.ndarray]
) -> None:
    path = damaged(tmp_path, calibration, next(iter(BLOCKS)), 8)
    proto = onnx.load(path)
    kept = {entry.key: entry.value for entry in proto.metadata_props}
    onnx.helper.set_model_props(proto, {**kept, "genie_onnx.quality": json.dumps(quality)})
    onnx.save(proto, path)
    text = genie_onnx.compare(DIGITS, path, data=IMAGES, samples=8, effects=False).diagnosis[0].text
    assert ("nothing to do" not in text) == contradicted
    assert ("judged the file usable: output 'logits' is at 18.0 dB" in text) == contradicted


def test_what_the_rounding_does_not_explain_is_said(
    tmp_path: Path, calibration: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = damaged(tmp_path, calibration, next(iter(BLOCKS)), 4)
    monkeypatch.setattr(comparison, "EFFECT_ELEMENTS", 1)  # effects on fewer images, which are not like the others
    images = np.load(IMAGES)["images"][:32].astype(np.float32)
    images[comparison.LEAST_EFFECT_SAMPLES :] *= 6
    np.save(tmp_path / "images.npy", images)
    found = genie_onnx.compare(DIGITS, path, data=tmp_path / "images.npy", samples=32)
    assert (found.samples, found.effect_samples, found.notices) == (32, comparison.LEAST_EFFECT_SAMPLES, ())
    model = onnx.load(path)
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[0] = "half"
    model.graph.node.append(onnx.helper.make_node("Add", ["half", "half"], ["logits"]))
    onnx.save(model, path)
    (notice,) = genie_onnx.compare(DIGITS, path, data=IMAGES, samples=32).notices
    assert "differs from the float model in something else too" in notice


def test_pictures_are_prepared_as_the_run_did_unless_told_otherwise(tmp_path: Path, calibration: dict[str, np.ndarray]) -> None:
    path = damaged(tmp_path, calibration, next(iter(BLOCKS)), 8)
    pixels, mean, std = as_pixels(calibration["image"])
    np.save(tmp_path / "pixels.npy", pixels)
    same = genie_onnx.compare(DIGITS, path, data=tmp_path / "pixels.npy", samples=8, effects=False)
    wrong = genie_onnx.compare(DIGITS, path, data=tmp_path / "pixels.npy", samples=8, effects=False, mean=[0.0], std=[0.1])
    on_input = {found: next(v for v in f.values if v.value == "image") for found, f in (("same", same), ("wrong", wrong))}
    assert on_input["same"].saturated == 0
    assert on_input["wrong"].saturated > 0.1
    assert f"The run had --mean {mean:g} --std {std:g}, this comparison --mean 0 --std 0.1" in wrong.diagnosis[0].text


def test_what_raises_in_the_callback_ends_the_comparison(tmp_path: Path, calibration: dict[str, np.ndarray]) -> None:
    class StopError(Exception):
        pass

    def stop(step: Step) -> None:
        raise StopError

    with pytest.raises(StopError):
        genie_onnx.compare(DIGITS, damaged(tmp_path, calibration, next(iter(BLOCKS)), 8), samples=4, progress=stop)


def test_a_float_model_and_one_of_other_inputs_are_refused(tmp_path: Path, calibration: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError, match="no DequantizeLinear"):
        genie_onnx.compare(DIGITS, DIGITS, samples=2)
    other = onnx.load(DIGITS)
    other.graph.input[0].name = "pixels"
    for node in other.graph.node:
        node.input[:] = ["pixels" if name == "image" else name for name in node.input]
    onnx.save(other, tmp_path / "other.onnx")
    path = damaged(tmp_path, calibration, next(iter(BLOCKS)), 8)
    with pytest.raises(ModelError, match="the inputs of the float model are pixels, of the quantized one image"):
        genie_onnx.compare(tmp_path / "other.onnx", path, samples=2)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_the_command_ends_with_the_diagnosis(tmp_path: Path, calibration: dict[str, np.ndarray]) -> None:
    block = next(iter(BLOCKS))
    path = damaged(tmp_path, calibration, block, 2)
    written = tmp_path / "found.json"
    done = call(DIGITS, path, "--data", IMAGES, "--samples", 16, "--rows", 3, "-o", written)
    assert done.exit_code == 0, done.output
    tables, _, diagnosis = done.stdout.partition("\ndiagnosis\n")
    assert "... and" in tables
    assert diagnosis.startswith(f"* Block '{block}'")
    assert f"genie-onnx quantize {DIGITS}" in diagnosis
    assert json.loads(written.read_text())["diagnosis"][0]["block"] == block
    plain = call(DIGITS, path, "--data", IMAGES, "--samples", 16, "-q", "--json")
    assert json.loads(plain.stdout) == json.loads(written.read_text())
    everything = call(DIGITS, path, "--samples", 4, "-q", "--no-effects", "--rows", "all").stdout
    assert "... and" not in everything
    assert "share" not in everything
    assert "--data with some of your own tells more" in everything


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent.onnx", "absent.onnx"], "no such file"),
        ([DIGITS, DIGITS, "--rows", "few"], "neither a number of rows nor all"),
        ([DIGITS, DIGITS, "-o", "absent/found.json"], "its folder does not exist"),
        ([DIGITS, DIGITS, "-o", DIGITS], "give a file name that ends with .json"),
    ],
)
def test_mistakes_are_said_in_a_line(arguments: list[object], said: str) -> None:
    done = call(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert ConfigError.__name__ not in done.stderr


@pytest.mark.parametrize(("kind", "blamed"), [("data", True), ("calibration", False)])
def test_images_of_the_run_are_not_called_other_images_than_calibration_saw(
    kind: str, blamed: bool, tmp_path: Path, calibration: dict[str, np.ndarray]
) -> None:
    """Values that saturate are laid to calibration only where the images were not its own."""
    file = damaged(tmp_path, {"image": calibration["image"] * 0.4}, "/classifier/Gemm", 8)
    run = {"held_back_kind": "data"} if kind == "calibration" else {}
    np.savez(tmp_path / "images.npz", images=calibration["image"], **run)
    found = genie_onnx.compare(DIGITS, file, data=tmp_path / "images.npz", samples=32, effects=False)
    assert found.images == kind
    assert max(value.saturated for value in found.values) > 0.01
    assert any("lies outside of" in advice.text for advice in found.diagnosis) == blamed
