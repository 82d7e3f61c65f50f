"""Names of earlier versions: they work, they warn, and a run that was begun under them is no other run."""

from __future__ import annotations

import dataclasses
import inspect
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from genie_onnx_cli.main import main
from small_bn_net import SHAPE, small_bn_net

import genie_onnx
from genie_onnx import DistillConfig, QuantizeConfig, ReconstructConfig
from genie_onnx.run.directory import RunDirectory
from genie_onnx.spellings import SETTINGS, renamed_arguments, up_to_date

OLD, NEW = {"input_mean": (0.5,), "input_std": (0.25,)}, {"mean": (0.5,), "std": (0.25,)}
QUICK = QuantizeConfig(
    samples=8, distill=DistillConfig(iterations=2), reconstruct=ReconstructConfig(iterations=2), mean=(0.5,) * 3, std=(0.25,) * 3
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(small_bn_net(), path)
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def aged(path: Path) -> None:
    """Write a JSON file of a run as the version before wrote it."""
    text = path.read_text()
    for old, new in SETTINGS.items():
        text = text.replace(f'"{new}"', f'"{old}"')
    assert '"input_mean"' in text
    path.write_text(text)


def test_settings_take_and_have_their_old_names() -> None:
    with pytest.warns(DeprecationWarning, match="input_(mean|std) is now") as caught:
        config = QuantizeConfig(**OLD)  # type: ignore[arg-type]
    assert {Path(warning.filename) for warning in caught} == {Path(__file__)}
    assert config == QuantizeConfig(**NEW)  # type: ignore[arg-type]
    with pytest.warns(DeprecationWarning, match="input_std is now std") as caught:
        assert config.input_std == (0.25,)  # type: ignore[attr-defined]
    assert Path(caught[0].filename) == Path(__file__)
    with pytest.warns(DeprecationWarning, match="input_mean"):
        assert dataclasses.replace(config, input_mean=(0.1,)).mean == (0.1,)  # type: ignore[call-arg]


def test_new_names_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = dataclasses.replace(QUICK, mean=(0.1,), std=(0.2,))
        assert genie_onnx.from_json(genie_onnx.to_json(config)) == config
    assert not OLD.keys() & {field.name for field in dataclasses.fields(QuantizeConfig)}
    assert not OLD.keys() & inspect.signature(QuantizeConfig).parameters.keys()
    with pytest.raises(TypeError, match="input_meen"):
        QuantizeConfig(input_meen=(0.5,))  # type: ignore[call-arg]


def test_settings_saved_under_old_names_are_read() -> None:
    saved = json.loads(genie_onnx.to_json(QUICK))
    for old, new in SETTINGS.items():
        saved[old] = saved.pop(new)
    assert genie_onnx.from_json(json.dumps(saved)) == QUICK
    assert up_to_date(saved) == json.loads(genie_onnx.to_json(QUICK))


@pytest.mark.parametrize("function", [genie_onnx.evaluate, genie_onnx.compare, genie_onnx.verify])
def test_functions_take_the_old_order(function: Callable[..., Any]) -> None:
    """It is taken, and what is said then is of the model that is not there."""
    assert "channel_order" in inspect.signature(function).parameters
    paths = ("no.onnx", "no.quant.onnx") if function is genie_onnx.compare else ("no.onnx",)
    with pytest.warns(DeprecationWarning, match="order is now channel_order"), pytest.raises(genie_onnx.InputError):
        function(*paths, order="bgr")


def test_an_old_name_means_the_same() -> None:
    @renamed_arguments(order="channel_order")
    def said(channel_order: str = "rgb") -> str:
        return channel_order

    with pytest.warns(DeprecationWarning, match="order"):
        assert said(order="bgr") == "bgr"  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="both 'channel_order' and 'order'"):
        said(order="bgr", channel_order="bgr")  # type: ignore[call-arg]


def test_old_options_work_and_say_their_new_names(model: Path) -> None:
    arguments = ("quantize", model, "--dry-run", "--samples", 8)
    new = call(*arguments, "--mean", "0.1,0.2,0.3", "--std", "0.4,0.5,0.6")
    old = call(*arguments, "--input-mean", "0.1,0.2,0.3", "--input-std", "0.4,0.5,0.6")
    assert (new.exit_code, old.exit_code) == (0, 0), old.output
    assert old.stdout[old.stdout.index("{") :] == new.stdout[new.stdout.index("{") :]
    warned = old.stderr.splitlines()
    assert [line for line in warned if line.startswith("warning: ")] == warned
    assert ["--input-mean is now --mean" in warned[0], "--input-std is now --std" in warned[1]] == [True, True]
    assert new.stderr == ""
    both = call(*arguments, "--mean", "0.1", "--input-mean", "0.2", "--std", "1")
    assert both.exit_code == 2
    assert "--input-mean is the old name of --mean" in both.stderr


@pytest.mark.parametrize("command", ["quantize", "distill", "evaluate", "compare", "verify"])
def test_old_options_are_hidden(command: str) -> None:
    assert "--input-mean" not in call(command, "--help").stdout
    assert "--input-mean" in {name for option in main.commands[command].params for name in option.opts}


def test_a_run_begun_under_old_names_goes_on(model: Path, tmp_path: Path) -> None:
    first = genie_onnx.quantize(model, config=QUICK)
    codes = first.output.read_bytes()
    run = RunDirectory(first.run_dir)
    for file in (run.settings, run.source, run.report):
        aged(file)
    assert genie_onnx.plan(model, config=QUICK).run_dir == first.run_dir
    again = genie_onnx.quantize(model, config=QUICK)
    assert not [notice for notice in again.report.notices if "another" in notice]
    assert again.output.read_bytes() == codes
    for file in (run.settings, run.source, run.report):  # what is written anew has the new names
        if '"input_mean"' not in file.read_text():
            aged(file)
    exported = genie_onnx.export(run.path, genie_onnx.TARGETS["openvino"])
    assert exported.quality.ok == first.quality.ok
    assert genie_onnx.html_report(run.path).is_file()
    assert genie_onnx.status(run.path).to_json()
    with pytest.raises(genie_onnx.ConfigError, match=r"belongs to another run: --mean was 0\.5,0\.5,0\.5 and is now 0\.4"):
        genie_onnx.plan(model, config=dataclasses.replace(QUICK, mean=(0.4,) * 3))


def test_a_file_that_says_old_names_is_compared_as_it_was_made(model: Path) -> None:
    made = genie_onnx.quantize(model, config=QUICK)
    file = onnx.load(made.output)
    for entry in file.metadata_props:
        for old, new in SETTINGS.items():
            entry.value = entry.value.replace(f'"{new}"', f'"{old}"')
    assert any('"input_mean"' in entry.value for entry in file.metadata_props)
    older = made.output.with_name("older.onnx")
    onnx.save(file, older)
    np.save(model.with_name("x.npy"), np.random.default_rng(0).integers(0, 256, (4, *SHAPE[1:], SHAPE[0]), np.uint8))
    data = {"data": model.with_name("x.npy"), "effects": False}
    new, old = (genie_onnx.compare(model, path, **data) for path in (made.output, older))
    assert [value.sqnr_db for value in new.values] == [value.sqnr_db for value in old.values]
