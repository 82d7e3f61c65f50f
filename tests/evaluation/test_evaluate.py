"""`evaluate` on models and data of every kind it takes: public function and command line."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from click.testing import CliRunner, Result
from genie_onnx_cli.main import main
from PIL import Image

import genie_onnx
from genie_onnx import Framing
from genie_onnx.errors import RunError
from genie_onnx.evaluation import accuracy
from genie_onnx.validate import has_cuda, session

# The class of an image is its darkest quarter: of red for 3 channels, top left, top right, bottom left, bottom right.
QUARTERS = """<ir_version: 8, opset_import: ["" : 17]>
net ({input}) => (float[N, {classes}] scores) <int64[4] places = {{0, 1, 2, 3}}> {{
    {front}
    red = Slice (image, none, one, one)  cells = AveragePool <kernel_shape = [4, 4], strides = [4, 4]> (red)
    flat = Flatten (cells)  dark = Neg (flat)  {back}
}}"""
CONSTANTS = "none = Constant <value = int64[1] {0}> () one = Constant <value = int64[1] {1}> ()"
FRONTS = {
    "nchw": ("float[N, 3, 8, 8] image", ""),
    "nhwc": ("float[N, 8, 8, 3] x", "image = Transpose <perm = [0, 3, 1, 2]> (x)"),
    "uint8": ("uint8[N, 8, 8, 3] x", "f = Cast <to = 1> (x) image = Transpose <perm = [0, 3, 1, 2]> (f)"),
    "half": ("float16[N, 3, 8, 8] x", "image = Cast <to = 1> (x)"),
    "batch": ("float[3, 3, 8, 8] image", ""),
}
BACKS = {4: "scores = Identity (dark)", 5: "p = Constant <value = int64[4] {0, 1, 0, 0}> () scores = Pad (dark, p, low)"}


def quarters(path: Path, front: str = "nchw", classes: int = 4) -> Path:
    """Save the model; with five classes, the first is a background that no image is of."""
    declared, nodes = FRONTS[front]
    low = "low = Constant <value = float {-1000.0}> ()"
    text = QUARTERS.format(input=declared, classes=classes, front=f"{CONSTANTS} {low} {nodes}", back=BACKS[classes])
    onnx.save(onnx.parser.parse_model(text.replace(" <int64[4] places = {0, 1, 2, 3}>", "")), path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 20 pictures of 8 x 8, a CSV of their labels (the last one is wrong), and the same as npz."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "flat").mkdir()
    rows, pixels, labels = [], [], []
    rng = np.random.default_rng(0)
    for index in range(20):
        label = index % 4
        picture = rng.integers(150, 256, (8, 8, 3), np.uint8)
        picture[4 * (label // 2) :, 4 * (label % 2) :, 0][:4, :4] = 9
        label = 2 if index == 19 else label
        Image.fromarray(picture).save(folder / "flat" / f"{index:02}.png")
        rows.append(f"{index:02}.png,{'abcd'[label]}")
        pixels.append(picture)
        labels.append(label)
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]))
    np.savez(folder / "test.npz", images=np.stack(pixels), labels=labels, weight=np.arange(20.0))
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


@pytest.mark.parametrize("front", FRONTS)
def test_models_are_fed_in_their_own_form(front: str, tmp_path: Path, data: Path) -> None:
    found = genie_onnx.evaluate(quarters(tmp_path / "m.onnx", front), [data / "test.npz"])
    assert (found.samples, found.top1, found.top5) == (20, 19 / 20, None)


def test_labels_from_a_file_are_those_of_the_npz(tmp_path: Path, data: Path) -> None:
    model = quarters(tmp_path / "m.onnx")
    found = genie_onnx.evaluate(model, [data / "flat"], labels=data / "labels.csv")
    assert found.top1 == 19 / 20
    assert found.classes == ("a", "b", "c", "d")


def test_models_of_other_sizes_and_forms_go_through_one_pass_and_are_compared(tmp_path: Path, data: Path) -> None:
    small = quarters(tmp_path / "m.onnx", "nhwc")
    pooled = onnx.load(quarters(tmp_path / "large.onnx"))
    pooled.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 16
    pooled.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 16
    pool = next(node for node in pooled.graph.node if node.op_type == "AveragePool")
    for attribute in pool.attribute:
        attribute.ints[:] = [8, 8]
    onnx.save(pooled, tmp_path / "large.onnx")
    found = genie_onnx.evaluate([small, tmp_path / "large.onnx"], [data / "test.npz"])
    pair = found.models[1].against_first["top-1"]
    assert (pair.value, pair.won, pair.lost, found.models[1].agreement) == (0, 0, 0, 1)
    assert found.models[0].against_first == {}


def test_a_background_class_is_noticed_and_offset(tmp_path: Path, data: Path) -> None:
    model = quarters(tmp_path / "m.onnx", classes=5)
    wrong = call(model, "--data", data / "test.npz")
    assert "0.00 %" in wrong.stdout
    assert "Try --label-offset 1." in wrong.stdout
    right = call(model, "--data", data / "test.npz", "--label-offset", 1, "--mean", 0, "--std", 1)
    assert "95.00 %" in right.stdout
    assert "note:" not in right.stdout
    refused = call(quarters(tmp_path / "four.onnx"), "--data", data / "test.npz", "--label-offset", 1)
    assert refused.exit_code == 2
    assert "labels are 1 to 4, and the model has 4 classes" in refused.stderr


def test_names_follow_the_offset_and_have_to_be_as_many_as_the_classes(tmp_path: Path, data: Path) -> None:
    model = quarters(tmp_path / "m.onnx", classes=5)
    labelled = {"labels": data / "labels.csv"}
    found = genie_onnx.evaluate(model, [data / "flat"], label_offset=1, std=(1.0,), **labelled)
    assert (found.top1, found.notices) == (19 / 20, ())
    (pair,) = found.models[0].confusions
    assert (pair.label, found.class_name(pair.label), found.class_name(pair.predicted)) == (3, "c", "d")
    few = genie_onnx.evaluate(model, [data / "flat"], **labelled)
    assert any("has 5 classes, the data 4: their sorted names count as 0 to 3;" in notice for notice in few.notices)
    (tmp_path / "six.txt").write_text("\n".join("abcdef"))
    six = genie_onnx.evaluate(model, [data / "flat"], classes=tmp_path / "six.txt", **labelled)
    assert any("six.txt 6: is it the right list?" in notice for notice in six.notices)
    (tmp_path / "five.txt").write_text("\n".join("0abcd"))
    named = genie_onnx.evaluate(model, [data / "test.npz"], classes=tmp_path / "five.txt", label_offset=1)
    assert [named.class_name(index) for index in range(5)] == [*"0abcd"]


def test_a_model_that_takes_one_sample_only_despite_an_open_batch(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        net (float[N, 3, 4, 4] x) => (float[N, 48] y) <int64[2] s = {1, 48}> { y = Reshape (x, s) }""")
    onnx.save(proto, tmp_path / "m.onnx")
    np.savez(tmp_path / "t.npz", images=np.zeros((3, 3, 4, 4), np.uint8), labels=np.zeros(3, np.int64))
    with pytest.raises(RunError, match=r"fix its batch: .* --input_name x --input_shape 1,3,4,4 MODEL FIXED"):
        genie_onnx.evaluate(tmp_path / "m.onnx", tmp_path / "t.npz")


@pytest.mark.parametrize("prefix", ["", "input_"])  # input_mean: of a version before
def test_pictures_that_nobody_said_how_to_prepare_are_noticed(prefix: str, tmp_path: Path, data: Path) -> None:
    model, test = quarters(tmp_path / "m.onnx"), data / "test.npz"
    assert "give --mean and --std, or --preprocess" in genie_onnx.evaluate(model, test).notices[0]
    proto = onnx.load(model)
    settings = genie_onnx.to_json(genie_onnx.QuantizeConfig(mean=(0.5,), std=(0.25,)))
    for name in ("mean", "std"):
        settings = settings.replace(f'"{name}"', f'"{prefix}{name}"')
    proto.metadata_props.add(key="genie_onnx.settings", value=settings)
    onnx.save(proto, tmp_path / "q.onnx")
    (said,) = genie_onnx.evaluate([model, tmp_path / "q.onnx"], test).notices
    assert "the run that made q.onnx had --mean 0.5 --std 0.25" in said
    assert genie_onnx.evaluate([model, tmp_path / "q.onnx"], test, mean=(0.5,), std=(0.25,)).notices == ()
    assert genie_onnx.evaluate(quarters(tmp_path / "u.onnx", "uint8"), test).notices == ()


def test_a_float_model_and_one_of_pixels_are_compared(tmp_path: Path, data: Path) -> None:
    """The preprocessing is the float model's; the other has its own."""
    models = [quarters(tmp_path / "m.onnx"), quarters(tmp_path / "u.onnx", "uint8")]
    found = genie_onnx.evaluate(models, [data / "test.npz"], mean=(0.5,), std=(0.5,))
    assert [model.figures["top-1"].value for model in found.models] == [19 / 20] * 2


def test_files_for_predictions_and_confusions(tmp_path: Path, data: Path) -> None:
    model = quarters(tmp_path / "m.onnx")
    files = ("--predictions", tmp_path / "p.csv", "--confusion", tmp_path / "c.csv", "--worst", 3)
    result = call(model, model, "--data", data / "flat", "--labels", data / "labels.csv", *files)
    assert result.exit_code == 0, result.output
    predictions = list(csv.reader((tmp_path / "p.csv").open()))
    assert predictions[0] == ["image", "label", f"predicted by {model}", f"predicted by {model}"]
    assert predictions[-1] == [str(data / "flat" / "19.png"), "2", "3", "3"]
    assert len(predictions) == 21
    confusions = list(csv.reader((tmp_path / "c.csv").open()))
    assert confusions[1:] == [[str(model), "2", "c", "3", "d", "1"]] * 2
    assert "taken for" in result.stdout


def test_a_users_metric_from_the_current_folder(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_measure.py").write_text(
        "def heavy(outputs, targets):\n"
        "    right = outputs['scores'].argmax(1) == targets['labels']\n"
        "    return {'heavy': right * targets['weight'], 'long': [len(name) for name in targets['names']],\n"
        "            'off': abs(outputs['scores'] - targets['first']['scores']).max(1)}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    model, half = quarters(tmp_path / "m.onnx"), quarters(tmp_path / "half.onnx", "half")
    arguments = (model, half, "--data", data / "test.npz", "--metric", "own_measure:heavy", "--predictions", tmp_path / "p.csv")
    found = json.loads(call(*arguments, "--json").stdout)
    assert found["models"][0]["figures"]["heavy"]["value"] == pytest.approx(sum(range(19)) / 20)
    assert found["models"][1]["against_first"]["heavy"]["value"] == 0
    assert found["models"][1]["agreement"] is None
    off = [row["figures"]["off"]["value"] for row in found["models"]]
    assert off[0] == 0 < off[1] < 0.001
    assert "heavy" in call(*arguments).stdout
    headings = [f"{name} by {path}" for path in (model, half) for name in ("heavy", "long", "off")]
    assert (tmp_path / "p.csv").read_text().splitlines()[0].split(",") == ["image", *headings]
    for name, said in {"own_measure": "not MODULE:NAME", "own_measure:light": "no function", "no_measure:x": "no module"}.items():
        refused = call(model, "--data", data / "test.npz", "--metric", name)
        assert (refused.exit_code, said in refused.stderr) == (2, True), refused.stderr


def test_what_cannot_be_evaluated_gets_a_line_each(tmp_path: Path, data: Path) -> None:
    model = quarters(tmp_path / "m.onnx")
    npz = ("--data", data / "test.npz")
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    written = tmp_path / "floats.npz"
    np.savez(written, images=np.zeros((2, 3, 8, 8), np.float32), labels=np.arange(2))
    cases = {
        "there is nothing to evaluate on": [model],
        "text.onnx: onnxruntime": [model, text, tmp_path / "missing.onnx", *npz],
        "missing.onnx: this is no file": [model, text, tmp_path / "missing.onnx", *npz],
        "give a file name that ends with .csv": [model, *npz, "--predictions", model],
        "its folder does not exist": [model, *npz, "--confusion", tmp_path / "none" / "c.csv"],
        "leave out --mean and --std": [quarters(tmp_path / "u.onnx", "uint8"), *npz, "--mean", "0.5", "--std", "0.5"],
        "takes 8x8, and --input-size or --crop is 4x4": [model, *npz, "--crop", "4"],
        "is not MODULE:NAME": [model, *npz, "--metric", "./measures.py:IoU"],
        "that is read, it is not overwritten": [
            model,
            *npz,
            "--labels",
            text.with_suffix(".csv"),
            "--predictions",
            text.with_suffix(".csv"),
        ],
        "save them as uint8": [quarters(tmp_path / "u.onnx", "uint8"), "--data", written],
        "--label-offset is for top-1": [model, *npz, "--metric", "json:loads", "--label-offset", "1"],
        "is neither a length such as 256": [model, *npz, "--resize", "1x2x3"],
    }
    for said, arguments in cases.items():
        result = call(*arguments)
        assert result.exit_code == 2, result.output
        assert said in result.stderr, (said, result.stderr)
        assert all(line.startswith("error: ") for line in result.stderr.splitlines())
    assert model.exists()


def test_pictures_are_framed_as_asked(tmp_path: Path, data: Path) -> None:
    """Cut from the centre of larger pictures, or scaled whole: only the one shows all quarters."""
    (tmp_path / "large").mkdir()
    for file in sorted((data / "flat").iterdir()):
        framed = np.full((24, 24, 3), 255, np.uint8)
        framed[8:16, 8:16] = np.asarray(Image.open(file))
        framed[:6, :6] = 0
        Image.fromarray(framed).save(tmp_path / "large" / file.name)
    model = quarters(tmp_path / "m.onnx")
    given = {"labels": data / "labels.csv"}
    cut = genie_onnx.evaluate(model, [tmp_path / "large"], framing=Framing(crop=(8, 8)), **given)
    whole = genie_onnx.evaluate(model, [tmp_path / "large"], **given)
    assert (cut.top1, whole.top1 < 0.9) == (19 / 20, True)
    asked = json.loads(call(model, "--data", tmp_path / "large", "--labels", data / "labels.csv", "--crop", 8, "--json").stdout)
    assert asked["models"][0]["figures"]["top-1"]["value"] == 19 / 20


def test_presets_and_the_options_that_override_them(tmp_path: Path) -> None:
    """For every command that takes pictures; `quantize` shows what it understood."""
    net = """<ir_version: 8, opset_import: ["" : 17]> net (float[N, 3, h, w] x, float[4, 3, 3, 3] k) => (float[N, 4, a, b] y) {
        y = Conv (x, k) }"""
    proto = onnx.parser.parse_model(net)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "k"))
    onnx.save(proto, tmp_path / "net.onnx")

    def settings(*options: str) -> dict:
        result = CliRunner().invoke(main, ["quantize", str(tmp_path / "net.onnx"), "--dry-run", *options])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout[result.stdout.index("{") :])

    preset = settings("--preprocess", "imagenet")
    assert preset["framing"] == {"resize": [256], "crop": [224, 224], "interpolation": "bilinear"}
    assert (preset["mean"], preset["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    swapped = settings("--preprocess", "imagenet", "--channel-order", "bgr", "--std", "0.5", "--resize", "40x50", "--crop", "32")
    assert swapped["framing"] == {"resize": [40, 50], "crop": [32, 32], "interpolation": "bilinear"}
    assert (swapped["mean"], swapped["std"]) == ([0.406, 0.456, 0.485], [0.5, 0.5, 0.5])
    alone = settings("--input-size", "32x32", "--interpolation", "bicubic")
    assert (alone["framing"]["interpolation"], alone["framing"]["crop"]) == ("bicubic", None)
    assert settings("--input-size", "32x32")["framing"] is None
    text = genie_onnx.to_json(genie_onnx.QuantizeConfig(framing=Framing(resize=(256,), crop=(224, 224))))
    assert genie_onnx.from_json(text).framing == Framing(resize=(256,), crop=(224, 224))
    old = json.loads(text)
    del old["framing"]
    assert genie_onnx.from_json(json.dumps(old)).framing is None


def test_ctrl_c_ends_with_one_line(tmp_path: Path, data: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import sys, time\ndef slow(outputs, targets):\n    print('here', file=sys.stderr, flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "genie_onnx", "evaluate", quarters(tmp_path / "m.onnx"), "--data", data / "test.npz"]
    process = subprocess.Popen([*map(str, command), "--metric", "slow:slow"], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stderr is not None
    lines = iter(process.stderr)
    assert any(line == "here\n" for line in lines)
    process.send_signal(signal.SIGINT)
    said = [line for line in lines if line.strip()]
    assert process.wait(20) == 130
    assert said == ["error: stopped after 0 images; the first ones are no fair sample, so nothing is printed\n"]


@pytest.mark.skipif(has_cuda(), reason="this onnxruntime has CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_auto_is_the_cpu_where_onnxruntime_cannot_load_cuda(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(session, "has_cuda", lambda: True)
    assert genie_onnx.evaluate(quarters(tmp_path / "m.onnx"), data / "test.npz").provider == "cpu"


@pytest.mark.gpu
def test_models_run_on_a_gpu(tmp_path: Path, data: Path) -> None:
    found = genie_onnx.evaluate(quarters(tmp_path / "m.onnx"), [data / "test.npz"], provider="cuda")
    assert (found.provider, found.top1) == ("cuda", 19 / 20)
