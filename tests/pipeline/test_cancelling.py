"""A call ends where its callback raises, at any stage, and the same call goes on from there to the identical file."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from small_bn_net import SHAPE, small_bn_net

import genie_onnx
from genie_onnx import CancelledError, DistillConfig, Event, PlacementConfig, QuantizeConfig, ReconstructConfig, Step, cancellable
from genie_onnx.events import Stage
from genie_onnx.validate.runtimes import child

CONFIG = QuantizeConfig(
    samples=12,
    placement=PlacementConfig(setting="qdrop"),  # a value of 4 bits, to be equalised
    distill=DistillConfig(iterations=2, batch_size=6, start="leaves"),
    reconstruct=ReconstructConfig(iterations=3),
)
STAGES = ["check", "statistics", "images", "judges", "save", "grids", "weights", "learn", "export"]
CLOSED, LEARNED = [*STAGES, "equalise"], ["targets", "learn", "carry"]  # each block in closed form first, or what differs else
LATENCY = 5.0  # s; a step of the small network takes milliseconds, but the machine may be busy


def leftovers(folder: Path) -> list[Path]:
    """Return what unfinished writing left."""
    return [path for path in folder.rglob("*") if ".part" in path.name]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The small network with its BatchNorm, as a file."""
    onnx.save(small_bn_net(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def reached(told: list[Event], stage: str) -> bool:
    """Whether a step of `stage` was told."""
    return any(isinstance(event, Step) and event.stage == stage for event in told)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "learned"])
def test_cancelled_in_every_stage_a_run_goes_on_to_the_same_file(closed: bool, model: Path, tmp_path: Path) -> None:
    config = CONFIG if closed else replace(CONFIG, closed_form=None)
    whole = genie_onnx.quantize(model, tmp_path / "whole.onnx", config=config)
    output, told = tmp_path / "cancelled.onnx", list[Event]()
    stages = CLOSED if closed else LEARNED
    for stage in sorted(stages, key=get_args(Stage).index):
        told.clear()
        with pytest.raises(CancelledError, match="goes on from the last finished step"):
            genie_onnx.quantize(
                model,
                output,
                config=config,
                progress=cancellable(lambda stage=stage: reached(told, stage), told.append),  # type: ignore[misc]
            )
        assert not output.exists()
        assert not leftovers(tmp_path)
    genie_onnx.quantize(model, output, config=config)
    assert output.read_bytes() == whole.output.read_bytes()


@pytest.mark.parametrize("endless", ["images", pytest.param("learn", marks=pytest.mark.slow)])
def test_another_thread_cancels_a_long_stage_at_once(endless: str, model: Path) -> None:
    many = 20_000  # minutes
    config = replace(
        CONFIG,
        distill=replace(CONFIG.distill, iterations=many if endless == "images" else 2),
        reconstruct=replace(CONFIG.reconstruct, iterations=many if endless == "learn" else 2),
    )
    stop, asked_at = threading.Event(), list[float]()

    def ask() -> None:
        asked_at.append(time.monotonic())
        stop.set()

    button = threading.Timer(0.2, ask)

    def press(event: Event) -> None:
        if isinstance(event, Step) and event.stage == endless and not button.is_alive() and not asked_at:
            button.start()

    with pytest.raises(CancelledError):
        genie_onnx.quantize(model, config=config, progress=cancellable(stop.is_set, press))
    assert time.monotonic() - asked_at[0] < LATENCY


def test_a_runtime_that_hangs_is_ended_with_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "PACE", 0.1)
    ended = tmp_path / "pid"
    script = f"import os, time, pathlib; pathlib.Path({str(ended)!r}).write_text(str(os.getpid())); time.sleep(600)"

    def stop() -> None:
        if ended.exists() and ended.read_text():
            raise CancelledError("now")

    with pytest.raises(CancelledError):
        child._run([sys.executable, "-c", script], tmp_path, 600, stop)
    if os.name == "posix":
        with pytest.raises(ProcessLookupError):
            os.kill(int(ended.read_text()), 0)


def test_all_else_ends_as_its_callback_says(model: Path, tmp_path: Path) -> None:
    done = genie_onnx.quantize(model, config=CONFIG)
    never = cancellable(lambda: True)
    with pytest.raises(CancelledError):
        genie_onnx.verify(done.output, runtimes=["onnxruntime"], progress=never)
    with pytest.raises(CancelledError):
        genie_onnx.export(done.run_dir, genie_onnx.TARGETS["openvino"], tmp_path / "other.onnx", progress=never)
    assert not (tmp_path / "other.onnx").exists()
    np.savez(tmp_path / "labelled.npz", x=np.zeros((4, *SHAPE), np.float32), labels=np.zeros(4, np.int64))
    with pytest.raises(CancelledError):
        genie_onnx.evaluate(done.output, tmp_path / "labelled.npz", progress=never)
    with pytest.raises(CancelledError):
        genie_onnx.compare(model, done.output, samples=4, progress=never)
    with pytest.raises(CancelledError):
        genie_onnx.html_report(done.run_dir, effects=True, progress=never)
    with pytest.raises(CancelledError):
        genie_onnx.distill(model, tmp_path / "made", config=CONFIG, progress=never)
