"""report.html of real runs: made by quantize, made again, of older runs, and never at the cost of the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner
from genie_onnx_cli.main import main
from small_bn_net import small_bn_net

import genie_onnx
from genie_onnx import ConfigError, DistillConfig, Notice, PlacementConfig, QuantizeConfig, ReconstructConfig, RunError, Step
from genie_onnx.pipeline import reporting
from genie_onnx.report.history import read_history
from genie_onnx.run.directory import RunDirectory

QUICK = QuantizeConfig(
    samples=16,
    placement=PlacementConfig(first_last_bits=4),  # all blocks are learned: rounding to 8 bits would not be
    distill=DistillConfig(iterations=3, batch_size=8),
    reconstruct=ReconstructConfig(iterations=4),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> genie_onnx.Result:
    """A finished run of a small network."""
    model = tmp_path_factory.mktemp("run") / "net.onnx"
    onnx.save(small_bn_net(), model)
    return genie_onnx.quantize(model, config=QUICK, command="genie-onnx quantize net.onnx")


@pytest.fixture
def run(finished: genie_onnx.Result, tmp_path: Path) -> RunDirectory:
    """A copy of its directory."""
    return RunDirectory(shutil.copytree(finished.run_dir, tmp_path / "net.quant.genie"))


def embedded(page: Path) -> dict[str, Any]:
    """Return the data in a page."""
    text = page.read_text(encoding="utf-8").split('<script type="application/json" id="data">')[1].split("</script>")[0]
    return dict(json.loads(text))


def test_quantize_makes_it_at_its_end(finished: genie_onnx.Result) -> None:
    page = finished.page
    assert page == finished.run_dir / "report.html"
    assert page is not None
    found = embedded(page)
    assert found["report"] == json.loads(finished.report.to_json())
    assert [row["block"] for row in found["blocks"]] == [loss.block for loss in finished.report.blocks]
    assert set(found["steps"]) == set(finished.report.weights)
    assert found["comparison"] == json.loads(RunDirectory(finished.run_dir).comparison.read_text())
    assert {weight["weight"] for weight in found["comparison"]["weights"]} == set(finished.report.weights)
    assert all(block["share"] is None for block in found["comparison"]["blocks"])
    text = page.read_text(encoding="utf-8")
    assert text.count('alt="calibration image') == QUICK.samples
    assert "Distillation: BN loss" in text
    assert text.count('<div data-block="') == len(finished.report.blocks)


def test_the_command_prints_where_it_is(run: RunDirectory, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["report", str(run.path), "-o", str(tmp_path / "r.html")])
    assert (done.exit_code, done.output) == (0, f"{tmp_path / 'r.html'}\n")
    refused = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert refused.exit_code == 2


def test_made_again_it_is_the_same(finished: genie_onnx.Result, run: RunDirectory, tmp_path: Path) -> None:
    page = genie_onnx.html_report(run.path, tmp_path / "other.html")
    assert page == tmp_path / "other.html"
    assert embedded(page) == embedded(run.page)


def test_effects_of_blocks_are_measured_when_asked_for(run: RunDirectory) -> None:
    assert "--effects" in run.page.read_text(encoding="utf-8")
    page = genie_onnx.html_report(run.path, effects=True)
    assert sum(block["share"] for block in embedded(page)["comparison"]["blocks"]) == pytest.approx(1)
    assert "Not in this report" not in page.read_text(encoding="utf-8")


def test_an_older_run_says_what_is_missing_and_how_to_get_it(run: RunDirectory) -> None:
    for file in (run.blocks, run.comparison, run.history):
        file.unlink(missing_ok=True)
    source = json.loads(run.source.read_text())
    run.source.write_text(json.dumps({**source, "model": "/not/there/net.onnx"}))
    text = genie_onnx.html_report(run.path).read_text(encoding="utf-8")
    assert "Not in this report" in text
    assert "the float model, /not/there/net.onnx, is not there" in text
    assert f"genie-onnx report {run.path} --model FLOAT.onnx" in text
    assert "Curves of losses" in text


def test_a_run_that_learned_nothing_has_no_curves_to_miss(run: RunDirectory) -> None:
    report = json.loads(run.report.read_text())
    report["settings"]["reconstruct"]["iterations"] = 0
    run.report.write_text(json.dumps(report))
    run.history.unlink()
    assert "Curves of losses" not in genie_onnx.html_report(run.path).read_text(encoding="utf-8")


def test_a_file_that_onnxruntime_cannot_run_has_a_report_all_the_same(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*files: object, **settings: object) -> None:
        raise RunError("onnxruntime cannot load the model")

    monkeypatch.setattr(reporting, "compare", refuse)
    run.comparison.unlink()
    assert "onnxruntime cannot load the model" in genie_onnx.html_report(run.path).read_text(encoding="utf-8")
    with pytest.raises(RunError):
        genie_onnx.html_report(run.path, effects=True)


def test_with_the_float_model_it_has_the_network(run: RunDirectory, finished: genie_onnx.Result) -> None:
    kept = run.blocks.read_text()
    run.blocks.unlink()
    page = genie_onnx.html_report(run.path, model=finished.output.with_name("net.onnx"))
    assert run.blocks.read_text() == kept
    assert 'class="edge"' in page.read_text(encoding="utf-8")


def test_another_model_is_refused(run: RunDirectory, tmp_path: Path) -> None:
    run.blocks.unlink()
    other = small_bn_net(std=(2, 2, 2))
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(ConfigError, match=r"other\.onnx is not the model of the run"):
        genie_onnx.html_report(run.path, model=tmp_path / "other.onnx")


def test_a_run_that_was_stopped_has_all_its_curves(tmp_path: Path) -> None:
    onnx.save(small_bn_net(), tmp_path / "net.onnx")

    def stop(event: object) -> None:
        if isinstance(event, Step) and event.stage == "learn" and (event.index, event.iteration) == (1, 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        genie_onnx.quantize(tmp_path / "net.onnx", config=QUICK, progress=stop)
    result = genie_onnx.quantize(tmp_path / "net.onnx", config=QUICK)
    curves = read_history(RunDirectory(result.run_dir).history)
    batches, blocks = ([c for c in curves if c.stage == stage] for stage in ("images", "learn"))
    assert [curve.points[-1][0] for curve in batches] == [3, 3]
    assert [c.name for c in blocks] == [loss.block for loss in result.report.blocks]
    assert all(loss.after <= loss.before for loss in result.report.blocks)  # on images held back: kept where it gained
    assert all(len({at for at, _ in curve.points}) == len(curve.points) for curve in curves)


def test_what_is_not_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"it has no report\.json"):
        genie_onnx.html_report(tmp_path)


def test_a_report_that_fails_does_not_lose_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(contents: object) -> str:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(reporting, "render", fail)
    onnx.save(small_bn_net(), tmp_path / "net.onnx")
    told: list[object] = []
    result = genie_onnx.quantize(tmp_path / "net.onnx", config=QUICK, progress=told.append)
    assert result.page is None
    assert result.output.is_file()
    assert RunDirectory(result.run_dir).report.is_file()
    (notice,) = [event.text for event in told if isinstance(event, Notice) and "a defect" in event.text]
    assert f"genie-onnx report {result.run_dir}" in notice
