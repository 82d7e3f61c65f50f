"""Whose a run directory is: every difference is named, one process works in it, what is not ours is left alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from genie_onnx_cli.quantize import quantize
from small_bn_net import small_bn_net

import genie_onnx
from genie_onnx import (
    BitGoal,
    ConfigError,
    DistillConfig,
    Framing,
    LayerBits,
    Notice,
    PlacementConfig,
    QuantizeConfig,
    ReconstructConfig,
)
from genie_onnx.machine.compute import Compute
from genie_onnx.pipeline.identity import machine
from genie_onnx.run import directory as rundir
from genie_onnx.run.differences import UNOPTIONED, option
from genie_onnx.run.directory import RunDirectory, open_run

MACHINE = {"torch": "2.13.0", "threads": "2"}


def identity(config: QuantizeConfig, model: str = "a" * 64, data: str | None = None) -> dict[str, Any]:
    """What a run with `config` is told by, as pipeline.identity has it."""
    settings = dataclasses.asdict(config)
    settings["target"] = settings["target"]["constraints"]
    return {"model": model, "data": data, "shape": [3, 8, 8], "settings": settings}


def opened(path: Path, told: dict[str, Any], model: str = "net.onnx", machine: dict[str, str] = MACHINE) -> list[str]:
    """Open the run and close it; return its notices."""
    notices: list[Notice] = []
    with open_run(path, told, {"model": f"/models/{model}"}, machine, notices.append) as run:
        assert run.is_working()
    assert not run.is_working()
    return [notice.text for notice in notices]


def leaves(settings: dict[str, Any], where: str = "") -> Iterator[str]:
    """Yield the path of every setting."""
    for name, value in settings.items():
        path = f"{where}.{name}".lstrip(".")
        yield from leaves(value, path) if isinstance(value, dict) else [path]


def test_settings_are_named_by_options_that_exist() -> None:
    options = {name for parameter in quantize.params for name in (*parameter.opts, *parameter.secondary_opts)}
    every = QuantizeConfig(framing=Framing(), bit_goal=BitGoal(average=4))  # sections that are not there by default
    for setting in leaves(identity(every)["settings"]):
        assert (option(setting).split()[0] in options) != (setting in UNOPTIONED), setting


def test_every_difference_is_named(tmp_path: Path) -> None:
    opened(tmp_path / "run", identity(QuantizeConfig()))
    other = QuantizeConfig(
        seed=1,
        placement=PlacementConfig(wbits=2, reduce_range=True, layer_bits=(LayerBits(pattern="c", wbits=8, abits=4),)),
        distill=DistillConfig(iterations=7, refine_iterations=9, latent_lr=0.2),
        reconstruct=ReconstructConfig(drop_probability=0.25),
        mean=(0.5, 0.25),
        std=(1, 1),
        framing=Framing(resize=(256,), crop=(32, 24)),
        bit_goal=BitGoal(average=3.5),
    )
    with pytest.raises(ConfigError) as refused:
        opened(tmp_path / "run", identity(other, "b" * 64, "c" * 64), "new.onnx")
    (sentence,) = refused.value.problems
    for phrase in (
        "the model was net.onnx (SHA-256 aaaaaaaaaaaa...) and is now new.onnx (bbbbbbbbbbbb...)",
        "--data was not given and is given now",
        "--wbits was 4 and is now 2",
        "--reduce-range was off and is now on",
        "--bits was not given and is now c=8/4",
        "--distill-iters was 4000 and is now 7",
        "--distill-iters was 60 and is now 9",
        "distill.latent_lr was 0.1 and is now 0.2",
        "--drop was 0.5 and is now 0.25",
        "--mean was not given and is now 0.5,0.25",
        "--resize was not given and is now 256",
        "--crop was not given and is now 32,24",
        "--avg-bits was not given and is now 3.5",
        "--seed was 0 and is now 1",
    ):
        assert phrase in sentence
    assert sentence.endswith("Choose another with --run-dir, or delete it")
    assert "\n" not in sentence
    assert opened(tmp_path / "run", identity(QuantizeConfig()), "moved.onnx") == []
    with pytest.raises(ConfigError, match=r"is now moved\.onnx .*: it was changed, or --set-input was"):
        opened(tmp_path / "run", identity(QuantizeConfig(), "b" * 64), "moved.onnx")


def test_a_section_that_one_option_switches_is_one_difference(tmp_path: Path) -> None:
    opened(tmp_path / "run", identity(QuantizeConfig()))
    with pytest.raises(ConfigError, match=r"another run: --closed-form was on and is now off\. Choose"):
        opened(tmp_path / "run", identity(QuantizeConfig(closed_form=None)))


def test_a_machine_of_another_precision_is_another_machine() -> None:
    precise, rough = machine(Compute(torch.device("cpu"), "fp32")), machine(Compute(torch.device("cpu"), "bf16"))
    assert {name for name in precise if precise[name] != rough[name]} == {"precision"}


def test_another_machine_is_said_for_good(tmp_path: Path) -> None:
    told = identity(QuantizeConfig())
    assert opened(tmp_path, told) == []
    newer = {**MACHINE, "torch": "2.14.0"}
    (notice,) = opened(tmp_path, told, machine=newer)
    assert "torch 2.13.0 (now 2.14.0): its numbers may differ in their last bits" in notice
    (notice,) = opened(tmp_path, told, machine=MACHINE)
    assert "torch 2.14.0 (now 2.13.0)" in notice


def test_only_one_process_works_in_it(tmp_path: Path) -> None:
    told = identity(QuantizeConfig())
    with open_run(tmp_path, told, {}, MACHINE, lambda notice: None):
        with pytest.raises(ConfigError, match="another process is working in the run directory"):
            opened(tmp_path, told)
        assert RunDirectory(tmp_path).is_working()
    with pytest.raises(ZeroDivisionError), open_run(tmp_path, told, {}, MACHINE, lambda notice: None):
        raise ZeroDivisionError
    opened(tmp_path, told)


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty and not a run directory"):
        opened(tmp_path, identity(QuantizeConfig()))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ConfigError, match="is a file"):
        opened(tmp_path / "thesis.txt", identity(QuantizeConfig()))


def test_killed_before_anything_was_written(tmp_path: Path) -> None:
    for name in ("lock", "settings.json.part"):
        (tmp_path / name).write_text("")
    assert opened(tmp_path, identity(QuantizeConfig())) == []


@pytest.mark.parametrize("kept", [0, 1])
def test_killed_after_any_of_the_first_files(kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there then is taken for a run directory the next time."""
    written: list[Path] = []

    def write(path: Path, text: str) -> None:
        if len(written) == kept:
            raise KeyboardInterrupt
        path.write_text(text, encoding="utf-8")
        written.append(path)

    with monkeypatch.context() as patch:
        patch.setattr(rundir, "write_text", write)
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path, identity(QuantizeConfig()))
    assert opened(tmp_path, identity(QuantizeConfig())) == []


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"identity": {}})])
def test_damaged_settings_are_refused(content: str, tmp_path: Path) -> None:
    told = identity(QuantizeConfig())
    opened(tmp_path, told)
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ConfigError, match=r"settings\.json' is damaged .*: delete that run directory or choose another"):
        opened(tmp_path, told)


def test_another_run_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    onnx.save(small_bn_net(), model)
    quick = {"samples": 4, "images": "procedural", "reconstruct": ReconstructConfig(iterations=0)}
    genie_onnx.quantize(model, config=QuantizeConfig(**quick))
    genie_onnx.plan(model, config=QuantizeConfig(**quick))
    with pytest.raises(ConfigError, match=r"--wbits was 4 and is now 3\. Choose another with --run-dir, or delete it"):
        genie_onnx.plan(model, config=QuantizeConfig(placement=PlacementConfig(wbits=3), **quick))
