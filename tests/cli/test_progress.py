"""What is seen of a run while it goes: in a terminal, elsewhere, as JSON lines, and from Python."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import get_args

import onnx
import pytest
from click.testing import CliRunner
from genie_onnx_cli.following import NAMES, Following, duration, words
from genie_onnx_cli.main import main
from genie_onnx_cli.progress import Display
from genie_onnx_cli.views import JsonLines, LiveView, PlainLines
from rich.console import Console
from small_bn_net import small_bn_net

import genie_onnx
from genie_onnx import DistillConfig, Estimate, Event, ImagePlan, Notice, QuantizeConfig, ReconstructConfig, Step
from genie_onnx.events import Stage, Tally
from genie_onnx.pipeline.time_left import Part

CONFIG = QuantizeConfig(
    samples=16, distill=DistillConfig(iterations=3, batch_size=8), reconstruct=ReconstructConfig(iterations=4)
)
QUICK = ["--samples", "8", "--distill-iters", "2", "--recon-iters", "2"]
FIELDS = ["time", "stage", "index", "count", "name", "iteration", "iterations", "loss", "rate", "seconds_left", "notices"]
RUN = Estimate((Part("images", 0, 20.0), Part("learn", 0, 20.0), Part("learn", 1, 60.0)))
IMAGES = Step(stage="images", iterations=10)
BLOCK = Step(stage="learn", count=2, iterations=10, name="/layer1/Conv")


class Clock:
    """A clock that only tests move."""

    now = 100.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The small network with its BatchNorm, as a file."""
    onnx.save(small_bn_net(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def step(start: Step, iteration: int, loss: float | None = None, index: int = 0) -> Step:
    """`start`, further on."""
    return Step(
        stage=start.stage,
        index=index,
        count=start.count,
        iteration=iteration,
        iterations=start.iterations,
        name=start.name,
        loss=loss,
    )


def play(view: PlainLines | LiveView | JsonLines, following: Following, clock: Clock) -> None:
    """A run that takes as long as RUN says, a step every tenth of a part."""
    view.start()
    view.pause()
    following.begin(RUN)
    view.begin(["mind the gap"])
    for start, index, seconds in ((IMAGES, 0, 20.0), (BLOCK, 0, 20.0), (BLOCK, 1, 60.0)):
        for iteration in range(11):
            clock.now += seconds / 10 if iteration else 0.0
            following.tell(step(start, iteration, loss=0.125 if iteration else None, index=index))
            view.step()
        if start is IMAGES:
            view.notice("the batch was halved")
    view.stop(finished=True)


def test_plain_lines_are_few_and_plain() -> None:
    clock, file = Clock(), StringIO()
    following = Following(clock)
    play(PlainLines(Console(file=file, force_terminal=False), following), following, clock)
    lines = file.getvalue().splitlines()
    assert lines[0] == "images  step 0/10  0:00, about 1:40 left"
    assert lines[1] == "images  step 1/10  BN loss 0.125  0.5 steps/s  0:02, about 1:38 left"
    assert lines[3] == "images  step 10/10  BN loss 0.125  0.5 steps/s  0:20, about 1:20 left"  # as the stage ends
    assert lines[4] == "note: the batch was halved"
    assert lines[5] == "reconstruction  block 1/2  step 0/10  /layer1/Conv  0:20, about 1:20 left"
    assert lines[-1] == "reconstruction  block 2/2  step 10/10  loss 0.125  0.167 steps/s  /layer1/Conv  1:40, about 0:00 left"
    times = [60 * int(m) + int(s) for m, s in re.findall(r"(\d+):(\d\d), about", file.getvalue())]
    assert max(later - sooner for sooner, later in pairwise(times)) <= 16  # 10 s, and no step for 6 s
    assert len(lines) < 16
    assert not re.search(r"[^\x20-\x7e\n]", file.getvalue())


def test_json_lines_have_the_documented_fields() -> None:
    clock, file = Clock(), StringIO()
    following = Following(clock)
    play(JsonLines(file, following), following, clock)
    events = [json.loads(line) for line in file.getvalue().splitlines()]
    assert all(list(event) == FIELDS for event in events)
    assert [events[0][key] for key in ("time", "stage", "seconds_left", "notices")] == [0.0, "plan", 100.0, ["mind the gap"]]
    assert [events[-1][key] for key in ("time", "stage", "seconds_left")] == [100.0, "done", 0.0]
    assert [event["notices"] for event in events if event["notices"]][1:] == [["the batch was halved"]]
    middle = next(event for event in events if event["stage"] == "learn" and event["index"] == 1 and event["iteration"] == 5)
    assert (middle["count"], middle["iterations"], middle["name"], middle["loss"]) == (2, 10, "/layer1/Conv", 0.125)
    assert middle["rate"] == pytest.approx(10 / 60)
    assert middle["seconds_left"] == pytest.approx(30.0, abs=0.2)


def test_a_failed_run_is_not_done() -> None:
    file = StringIO()
    JsonLines(file, Following(Clock())).stop(finished=False)
    assert file.getvalue() == ""


def test_the_live_view_leaves_nothing_but_notices_and_the_cursor() -> None:
    clock, file = Clock(), StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None)
    following = Following(clock)
    play(LiveView(console, following), following, clock)
    shown = file.getvalue()
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 2  # hidden and shown again: before the plan, and for the run
    assert "note: the batch was halved" in shown
    assert shown.rstrip().endswith(("\x1b[2K", "\x1b[1A"))  # the last thing it does is to clear its lines


def test_the_live_view_says_where_the_run_stands() -> None:
    clock, file = Clock(), StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None)
    following = Following(clock)
    view = LiveView(console, following)
    assert "preparing" in "".join(part.text for part in console.render(view._render()))
    following.begin(RUN)
    following.tell(step(BLOCK, 0))
    clock.now += 10
    following.tell(step(BLOCK, 5, loss=0.25))
    shown = "".join(part.text for part in console.render(view._render()))
    assert "reconstruction  block 1/2  step 5/10  loss 0.25  0.5 steps/s  /layer1/Conv" in shown
    assert re.search(r"0:10 passed, about 1:\d\d left", shown)
    clock.now += 5  # it goes on between two steps
    assert "0:15 passed" in "".join(part.text for part in console.render(view._render()))


def test_words_and_durations() -> None:
    assert words(Step(stage="check"), None) == ""
    assert words(Step(stage="carry", index=2, count=5, iteration=64, iterations=128, name="b"), 32.0) == (
        "block 3/5  quantized outputs  64/128  32 images/s  b"
    )
    assert (duration(65), duration(7800), duration(0.4)) == ("1:05", "2:10:00", "0:00")


def test_a_tally_tells_ends_and_not_everything() -> None:
    told: list[Step] = []
    tell = Tally(told.append, Step(stage="carry", iterations=1000))
    for done in range(1, 1001):
        tell(done)
    assert [event.iteration for event in told][:1] == [0]
    assert told[-1].iteration == 1000
    assert len(told) < 10


def invoke(*arguments: object) -> tuple[str, str]:
    """Run the command line; return standard output and standard error."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_quantize_follows_itself(model: Path) -> None:
    out, err = invoke("quantize", model, *QUICK, "--log-json")
    events = [json.loads(line) for line in err.splitlines()]
    assert [event["stage"] for event in events][:2] == ["plan", "check"]
    assert events[-1]["stage"] == "done"
    assert all(event["seconds_left"] is not None for event in events)
    assert re.search(r"^time: about [\d.]+ (seconds|minutes) on this CPU: images .*, rest", out, re.MULTILINE)
    again, err = invoke("quantize", model, *QUICK, "--log-json")
    stages = {json.loads(line)["stage"] for line in err.splitlines()}
    assert stages == {"plan", "check", "export", "values", "done"}  # the rest was finished
    assert "images" not in next(line for line in again.splitlines() if line.startswith("time:"))
    assert invoke("quantize", model, *QUICK, "--quiet", "-o", model.with_name("quiet.onnx"))[1] == ""


def test_distill_and_reoptimize_follow_themselves(model: Path) -> None:
    out, err = invoke("distill", model, "--samples", "8", "--distill-iters", "2", "--log-json", "-o", model.with_name("images"))
    stages = {json.loads(line)["stage"] for line in err.splitlines()} - {
        "kernels"
    }  # tried where a machine is so slow that it pays
    assert stages == {"plan", "statistics", "images", "judges", "save", "done"}
    assert "preset fast (because this is a CPU, and no --preset is given)" in out
    assert "time: about" in out
    invoke("quantize", model, *QUICK, "--quiet")
    run = model.with_suffix(".quant.genie")
    out, err = invoke("export", run, "--target", "tensorrt", "--reoptimize", "--log-json")
    assert {json.loads(line)["stage"] for line in err.splitlines()} >= {"plan", "learn", "export", "done"}
    assert "time: about" in out


@pytest.mark.parametrize(
    ("options", "said"), [([], "fast (because this is a CPU, and no --preset is given)"), (["--preset", "paper"], "paper")]
)
def test_a_dry_run_says_the_preset_why_and_how_long(model: Path, options: list[str], said: str) -> None:
    out, err = invoke("quantize", model, "--dry-run", *options, "--samples", "8", "--distill-iters", "2")
    assert f"preset {said}: " in out
    assert "time: about" in out
    assert err == ""
    assert list(model.parent.iterdir()) == [model]


def test_the_callback_gets_the_plan_first_and_ends_the_run_by_raising(model: Path) -> None:
    events: list[Event] = []

    def tell(event: Event) -> None:
        events.append(event)
        if isinstance(event, Step) and event.stage == "weights" and event.index == 1:
            raise LookupError("a reason of the caller's own")

    whole = genie_onnx.quantize(model, model.with_name("whole.onnx"), config=CONFIG).output.read_bytes()
    half = model.with_name("half.onnx")
    with pytest.raises(LookupError, match="of the caller's own"):
        genie_onnx.quantize(model, half, config=CONFIG, progress=tell)
    assert isinstance(events[0], ImagePlan)
    assert all(isinstance(event, Step | Notice) for event in events[1:])
    assert not half.exists()
    events.clear()
    genie_onnx.quantize(model, half, config=CONFIG, progress=events.append)
    assert {event.index for event in events if isinstance(event, Step) and event.stage == "weights"} == {1}
    assert half.read_bytes() == whole


def test_the_display_leaves_the_terminal_clean_when_it_is_interrupted() -> None:
    file = StringIO()
    console = Console(file=file, force_terminal=True, width=80)

    def interrupted() -> None:
        with Display(False, False, lambda todo, expected: None, console=console) as display:
            display(step(BLOCK, 3, loss=1.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h") == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX's")
def test_ctrl_c_in_a_terminal(model: Path) -> None:
    """The live view's own process: exit code 130, one line, the cursor shown."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "genie_onnx", "quantize", str(model), "--samples", "8", "--distill-iters", "1"]
    command += ["--recon-iters", "1000000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=slave, env={**os.environ, "TERM": "xterm"})
    os.close(slave)
    shown, deadline = b"", time.monotonic() + 60
    while b"reconstruction" not in shown and time.monotonic() < deadline:
        shown += os.read(master, 4096)
    process.send_signal(signal.SIGINT)
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:  # Linux's way to say that nobody writes any more
        pass
    assert process.wait(timeout=30) == 130
    os.close(master)
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h")
    rest = shown[shown.rindex(b"\x1b[?25h") :].decode()
    assert rest.count("error: stopped") == 1
    assert "Traceback" not in shown.decode()


def test_every_stage_has_a_name_for_the_user() -> None:
    """One that has none would end the run."""
    assert set(get_args(Stage)) == NAMES.keys()
