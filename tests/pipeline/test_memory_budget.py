"""--memory-budget decides where values lie, and nothing else but for layers that read thousands of numbers."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from genie_onnx_cli.main import main
from small_bn_net import small_bn_net

import genie_onnx
from genie_onnx import ConfigError, QuantizeConfig, ReconstructConfig
from genie_onnx.events import Step

QUICK = QuantizeConfig(samples=16, images="procedural", reconstruct=ReconstructConfig(iterations=4))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(small_bn_net(), path)
    return path


def test_a_run_may_go_on_with_another_budget_and_ends_with_the_identical_file(model: Path, tmp_path: Path) -> None:
    whole = genie_onnx.quantize(model, tmp_path / "whole.onnx", config=QUICK)
    values = tmp_path / "half.genie" / "values"
    on_disk: list[str] = []

    def stop_in_the_second_block(event: genie_onnx.Event) -> None:
        if isinstance(event, Step) and event.stage == "weights" and event.index == 1:
            on_disk.extend(file.name for file in values.iterdir())
            raise KeyboardInterrupt

    half = tmp_path / "half.onnx"
    with pytest.raises(KeyboardInterrupt):
        genie_onnx.quantize(model, half, config=QUICK, memory_budget="1kB", progress=stop_in_the_second_block)
    assert len(on_disk) >= 2, "inputs of teacher and student"
    assert not values.exists()
    values.mkdir()
    (values / "000000").touch()  # what a killed run leaves
    result = genie_onnx.quantize(model, half, config=QUICK, memory_budget="1GB")
    assert result.output.read_bytes() == whole.output.read_bytes()
    assert not values.exists()


def test_what_is_no_size_is_refused_before_anything_is_written(model: Path) -> None:
    with pytest.raises(ConfigError, match="'lots' is not a size"):
        genie_onnx.quantize(model, config=QUICK, memory_budget="lots")
    result = CliRunner().invoke(main, ["quantize", str(model), "--dry-run", "--memory-budget", "8"])
    assert result.exit_code == 2
    assert "'8' is not a size above 0 such as 8GB" in result.output
    assert list(model.parent.iterdir()) == [model]
