"""A run whose file is useless, or not what was required: exit code 3, under another name, and every command says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import onnx.parser
import pytest
from click.testing import CliRunner, Result
from genie_onnx_cli.main import main
from small_bn_net import small_bn_net

import genie_onnx
from genie_onnx import PlacementConfig, QuantizeConfig, ReconstructConfig, Requirements
from genie_onnx.run.directory import RunDirectory

NEAREST = ["--wbits", "2", "--first-last-bits", "2", "--abits", "2", "--no-closed-form", "--recon-iters", "0"]
QUICK = ["--images", "procedural", "--samples", "8", "--quiet"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A folder with a useless run, begun where a good file lay under the ordinary name; and what the command said."""
    folder = tmp_path_factory.mktemp("useless")
    onnx.save(small_bn_net(), folder / "net.onnx")
    (folder / "net.quant.onnx").write_bytes(b"an earlier good file")
    return folder, call("quantize", folder / "net.onnx", *NEAREST, *QUICK)


@pytest.fixture
def folder(spoilt: tuple[Path, Result], tmp_path: Path) -> Path:
    """A copy of it."""
    copy = Path(shutil.copytree(spoilt[0], tmp_path / "work"))
    source = json.loads((copy / "net.quant.genie" / "source.json").read_text())
    moved = {**source, "model": str(copy / "net.onnx"), "output": str(copy / "net.quant.useless.onnx")}
    (copy / "net.quant.genie" / "source.json").write_text(json.dumps(moved))
    return copy


def test_it_ends_with_3_and_the_file_goes_aside(spoilt: tuple[Path, Result]) -> None:
    folder, done = spoilt
    assert done.exit_code == 3, done.output
    assert "verdict: useless: output 'scores' is at" in done.stdout
    assert "images that nobody took" in done.stdout
    assert "cause: " in done.stdout
    (error,) = done.stderr.splitlines()[-1:]
    assert error.startswith("error: the file is useless")
    assert error.endswith(
        f"It was written to {folder / 'net.quant.useless.onnx'}. To have it under its ordinary name all the "
        "same: --accept-useless"
    )
    assert (folder / "net.quant.onnx").read_bytes() == b"an earlier good file"
    written = {path.name for path in folder.iterdir()} - {"net.onnx", "net.quant.onnx"}
    ours = {f"net.quant.useless.{ending}" for ending in ("onnx", "report.json", "encodings.json")}
    assert written == {*ours, "net.quant.genie"}


def test_reports_metadata_and_status_say_so(spoilt: tuple[Path, Result]) -> None:
    folder, _ = spoilt
    beside = json.loads((folder / "net.quant.useless.report.json").read_text())
    run = RunDirectory(folder / "net.quant.genie")
    assert beside == json.loads(run.report.read_text())
    quality = beside["quality"]
    assert (quality["level"], quality["ok"], quality["images"]) == ("useless", False, "made")
    assert "block '" in quality["cause"]
    assert "% of" in quality["cause"] or "%:" in quality["cause"]
    assert quality["unused"]["share"] > 0
    blocks = json.loads(run.comparison.read_text())["blocks"]
    assert sum(block["share"] for block in blocks) == pytest.approx(1)  # the cause was measured
    page = run.page.read_text(encoding="utf-8")
    assert "<b>useless</b>" in page
    assert "Cause: " in page
    metadata = {e.key: e.value for e in onnx.load(folder / "net.quant.useless.onnx").metadata_props}
    assert json.loads(metadata["genie_onnx.quality"])["level"] == "useless"
    status = call("status", run.path)
    assert "verdict    useless: output 'scores'" in status.output
    assert "net.quant.useless.onnx" in status.output
    verified = call("verify", folder / "net.quant.useless.onnx", "--with", "onnxruntime", "--samples", "2")
    assert "judged against its float model: useless" in verified.output


def test_a_finished_run_may_be_judged_by_other_demands(folder: Path) -> None:
    accepted = call("quantize", folder / "net.onnx", *NEAREST, *QUICK, "--accept-useless")
    assert accepted.exit_code == 0, accepted.output
    assert "verdict: useless" in accepted.stdout
    onnx.checker.check_model(onnx.load(folder / "net.quant.onnx"))
    before = (folder / "net.quant.onnx").read_bytes()
    wanted = call("quantize", folder / "net.onnx", *NEAREST, *QUICK, "--accept-useless", "--require-sqnr", "20")
    assert wanted.exit_code == 3
    assert "20 dB were required of output 'scores', and it is at" in wanted.stderr
    assert (folder / "net.quant.onnx").read_bytes() == before
    assert (folder / "net.quant.useless.onnx").read_bytes() == before  # the same run


def test_what_an_earlier_run_put_aside_is_said_to_be_that(folder: Path) -> None:
    eight = ["--wbits", "8", "--abits", "8", "--run-dir", folder / "another"]
    before = (folder / "net.quant.useless.onnx").read_bytes()
    good = call("quantize", folder / "net.onnx", *eight, *QUICK)
    assert good.exit_code == 0, good.output
    assert f"note: {folder / 'net.quant.useless.onnx'} beside it is what an earlier run put aside" in good.stdout
    assert (folder / "net.quant.useless.onnx").read_bytes() == before
    (folder / "net.quant.useless.onnx").unlink()
    assert "put aside" not in call("quantize", folder / "net.onnx", *eight, *QUICK).stdout


def test_export_and_report_follow(folder: Path) -> None:
    run = folder / "net.quant.genie"
    exported = call("export", run, "--target", "int4", "-o", folder / "other.onnx")
    assert exported.exit_code == 3, exported.output
    assert {path.name for path in folder.glob("other*")} == {
        "other.useless.onnx",
        "other.useless.report.json",
        "other.useless.encodings.json",
    }
    again = call("report", run, "-o", folder / "page.html")
    assert again.exit_code == 0
    assert "<b>useless</b>" in (folder / "page.html").read_text(encoding="utf-8")


def test_in_python_the_result_says_so_and_raises_when_asked(tmp_path: Path) -> None:
    onnx.save(small_bn_net(), tmp_path / "net.onnx")
    eight = PlacementConfig(wbits=8, abits=8)
    config = QuantizeConfig(placement=eight, samples=8, images="procedural", reconstruct=ReconstructConfig(iterations=0))
    good = genie_onnx.quantize(tmp_path / "net.onnx", config=config, requirements=Requirements(sqnr_db=10, agreement=0.5))
    good.require()
    assert good.quality.level in ("good", "usable")
    assert good.report.quality == good.quality.to_json()
    lacking = genie_onnx.quantize(tmp_path / "net.onnx", config=config, requirements=Requirements(sqnr_db=150))
    assert lacking.output == tmp_path / "net.quant.useless.onnx"
    assert lacking.report_file.is_file()
    with pytest.raises(genie_onnx.QualityError, match=r"150 dB were required .* It was written to"):
        lacking.require()


def test_the_input_is_not_overwritten_by_what_is_useless(tmp_path: Path) -> None:
    onnx.save(small_bn_net(), tmp_path / "a.useless.onnx")
    refused = call("quantize", tmp_path / "a.useless.onnx", "-o", tmp_path / "a.onnx", *NEAREST, *QUICK)
    assert refused.exit_code == 2
    assert "is the input itself" in refused.stderr


KERNEL = ", ".join(str(0.1 * (k % 7 - 3)) for k in range(108))
DETECTOR = f"""<ir_version: 8, opset_import: ["" : 17]> net (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] map, float[N, 1] score)
<float[4, 3, 3, 3] w = {{{KERNEL}}}> {{ map = Conv (x, w)  mean = ReduceMean <axes = [1, 2, 3], keepdims = 0> (map)
one = Constant <value_ints = [-1, 1]> ()  score = Reshape (mean, one) }}"""


def test_agreement_is_not_required_of_what_has_no_classes(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(DETECTOR), tmp_path / "net.onnx")
    demanded = ["--require-agreement", "90"]
    for more in ([], ["--dry-run"]):
        refused = call("quantize", tmp_path / "net.onnx", *QUICK, *demanded, *more)
        assert refused.exit_code == 2, refused.output
        assert "no output has classes to agree on" in refused.stderr
        assert "there is 'map' [N, 4, 6, 6], 'score' [N, 1]" in refused.stderr
        assert "--require-sqnr" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert call("quantize", tmp_path / "net.onnx", *QUICK, "--wbits", "8", "--abits", "8").exit_code == 0
    exported = call("export", tmp_path / "net.quant.genie", "--target", "tvm", *demanded)
    assert exported.exit_code == 2
    assert "no output has classes" in exported.stderr


@pytest.mark.parametrize("wrong", [["--require-agreement", "120"], ["--require-agreement", "much"], ["--require-sqnr", "nan"]])
def test_demands_that_are_none_are_refused(wrong: list[str], tmp_path: Path) -> None:
    onnx.save(small_bn_net(), tmp_path / "net.onnx")
    refused = call("quantize", tmp_path / "net.onnx", *QUICK, *wrong)
    assert refused.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
