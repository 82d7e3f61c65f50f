"""`genie-onnx status`: how far a run is, from its directory alone, which stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result
from genie_onnx_cli.main import main
from small_bn_net import small_bn_net

import genie_onnx
from genie_onnx import ConfigError, DistillConfig, QuantizeConfig, ReconstructConfig, Step
from genie_onnx.config import ClosedFormConfig
from genie_onnx.run import status as run_status

CONFIG = QuantizeConfig(
    samples=12, distill=DistillConfig(iterations=2, batch_size=6), reconstruct=ReconstructConfig(iterations=3)
)


def call(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


def stopped(folder: Path, at: Callable[[genie_onnx.Event], bool]) -> Path:
    """Begin a run and stop it at an event; return its directory."""
    onnx.save(small_bn_net(), folder / "net.onnx")

    def stop(event: genie_onnx.Event) -> None:
        if at(event):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        genie_onnx.quantize(folder / "net.onnx", config=CONFIG, command="genie-onnx quantize net.onnx", progress=stop)
    return folder / "net.quant.genie"


def content(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Everything there is, with times."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_run_in_its_second_batch(tmp_path: Path) -> None:
    run = stopped(tmp_path, lambda event: isinstance(event, Step) and event.stage == "images" and event.index == 1)
    found = genie_onnx.status(run)
    assert (found.stage, found.batches_done, found.batches) == ("images", 1, 2)
    assert (found.blocks_done, len(found.blocks)) == (0, 2)


@pytest.mark.parametrize("closed", [True, False], ids=["closed form", "nearest"])
def test_blocks_that_learn_nothing_have_no_loss(closed: bool, tmp_path: Path) -> None:
    config = replace(CONFIG, reconstruct=ReconstructConfig(iterations=0), closed_form=ClosedFormConfig() if closed else None)
    onnx.save(small_bn_net(), tmp_path / "net.onnx")
    genie_onnx.quantize(tmp_path / "net.onnx", config=config)
    printed = call("status", tmp_path / "net.quant.genie")
    assert printed.exit_code == 0, printed.output
    assert "nan" not in printed.output
    assert "loss" in printed.output if closed else printed.output.count(": rounded, nothing to learn") == 2
    assert "NaN" not in call("status", tmp_path / "net.quant.genie", "--json").stdout


def test_a_run_in_its_second_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stopped(tmp_path, lambda event: isinstance(event, Step) and event.stage == "weights" and event.index == 1)
    monkeypatch.chdir(tmp_path)
    before = content(tmp_path)
    printed = call("status", run)
    found = json.loads(call("status", run, "--json").stdout)
    assert content(tmp_path) == before
    assert printed.exit_code == 0, printed.output
    assert (found["stage"], found["working"], found["batches_done"], found["batches"]) == ("reconstruction", False, 2, 2)
    first, second = found["blocks"].values()
    assert len(first) == 2
    assert second is None
    assert found["config"]["samples"] == 12
    assert found["sizes"]["images"] > found["sizes"]["codes"] > 0
    assert found["sizes"]["all"] >= found["sizes"]["images"] + found["sizes"]["codes"]
    for line in ("W4A4, 12 images", "reconstruction; no process is at it", "2 of 2 batches", "1 of 2", "&& genie-onnx quantize"):
        assert line in printed.stdout
    assert f"loss {first[0]:.4g} -> {first[1]:.4g}" in printed.stdout


def test_a_run_that_is_going_and_one_that_is_finished(tmp_path: Path) -> None:
    onnx.save(small_bn_net(), tmp_path / "net.onnx")
    seen: list[genie_onnx.RunStatus] = []

    def look(event: genie_onnx.Event) -> None:
        if isinstance(event, Step) and event.stage == "export":
            seen.append(genie_onnx.status(tmp_path / "net.quant.genie"))

    result = genie_onnx.quantize(tmp_path / "net.onnx", config=CONFIG, progress=look)
    assert (seen[0].stage, seen[0].working, seen[0].output_exists) == ("export", True, False)
    assert seen[0].process is not None
    done = genie_onnx.status(result.run_dir)
    assert (done.stage, done.working, done.output, done.output_exists) == ("finished", False, str(result.output), True)
    assert [tuple(loss) for loss in done.blocks.values() if loss] == [(b.before, b.after) for b in result.report.blocks]
    assert "go on" not in call("status", result.run_dir).stdout


def test_a_file_that_goes_while_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").write_bytes(b"1234")
    monkeypatch.setattr(os, "walk", lambda folder: [(str(folder), ["values"], ["kept", "replaced.part"])])
    assert {path.name: found.st_size for path, found in run_status._files(tmp_path).items()} == {"kept": 4}


def test_images_alone(tmp_path: Path) -> None:
    onnx.save(small_bn_net(), tmp_path / "net.onnx")
    assert call("distill", tmp_path / "net.onnx", "--samples", 8, "--distill-iters", 2, "-q").exit_code == 0
    found = genie_onnx.status(tmp_path / "net.images")
    assert (found.stage, found.blocks, found.output, found.batches) == ("finished", {}, None, 1)
    assert found.command is not None
    assert call("status", tmp_path / "net.images").exit_code == 0


def test_a_folder_that_is_no_run_directory(tmp_path: Path) -> None:
    for path, said in ((tmp_path, "has no settings.json"), (tmp_path / "none", "is not there"), (Path(__file__), "is a file")):
        refused = call("status", path)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert said in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_a_damaged_source(tmp_path: Path) -> None:
    run = stopped(tmp_path, lambda event: isinstance(event, Step) and event.stage == "learn")
    for text, said in (("{", "is damaged"), ('{"model": 3}', "was not written by this version")):
        (run / "source.json").write_text(text)
        with pytest.raises(ConfigError, match=said):
            genie_onnx.status(run)


def test_it_does_without_torch(tmp_path: Path) -> None:
    run = stopped(tmp_path, lambda event: isinstance(event, Step) and event.stage == "learn")
    script = f"import sys, genie_onnx; genie_onnx.status({str(run)!r}); sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
