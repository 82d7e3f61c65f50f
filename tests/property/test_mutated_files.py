"""Damaged and hostile files: a clear error or a right result, never a traceback, a crash, a hang or all the memory.

File number n is the same every time: property.mutations.write(n, folder) makes it. `python -m property.fuzz` tries a thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="memory is limited by POSIX means")

from property import fuzz, stand_ins
from property.apart import PATIENCE, Outcome, attempt
from property.mutations import MUTATIONS, write


@pytest.mark.parametrize("step", [2, pytest.param(1, marks=pytest.mark.slow)], ids=["every second kind", "every kind"])
def test_mutated_files(step: int, tmp_path: Path) -> None:
    """One of a kind; some are refused, some still right."""
    counts: Counter[str] = Counter()
    problems = []
    left_out = {f"file-{number}" for number in range(len(MUTATIONS)) if number % step}
    for name, path, what in fuzz.cases(len(MUTATIONS), 0, tmp_path, left_out):
        found = attempt(path)
        counts[found.outcome] += 1
        problem = fuzz.problem_of(found, sound=False)
        problems += [f"{name} ({what}) {problem}"] if problem else []
    assert not problems, "\n\n".join(problems)
    assert counts["refused"] > 5
    assert counts["quantized"] > 0


def test_the_files_are_the_same_every_time(tmp_path: Path) -> None:
    for seed in range(len(MUTATIONS)):
        places = [tmp_path / f"{seed}_{i}" for i in range(2)]
        for place in places:
            place.mkdir()
        if MUTATIONS[seed].__name__ != "external":  # names the folder it is in
            assert write(seed, places[0])[0].read_bytes() == write(seed, places[1])[0].read_bytes()


def test_the_random_graphs_are_the_same_every_time() -> None:
    first, second = fuzz.graphs(5), fuzz.graphs(5)
    assert [model.proto.SerializeToString() for model in first] == [model.proto.SerializeToString() for model in second]


@pytest.mark.parametrize(
    ("found", "sound", "wrong"),
    [
        (Outcome("quantized", "3 weights"), True, False),
        (Outcome("refused", "no image"), True, False),
        (Outcome("failed", "parity"), False, False),
        (Outcome("failed", "parity"), True, True),
        (Outcome("broken", "Traceback"), False, True),
        (Outcome("crashed", "SIGSEGV"), False, True),
        (Outcome("hung", "no end"), False, True),
        (Outcome("refused", " "), False, True),
        (Outcome("quantized", "3 weights", seconds=31), False, True),
        (Outcome("quantized", "3 weights", peak_mb=5000), False, True),
    ],
)
def test_what_none_may(found: Outcome, sound: bool, wrong: bool) -> None:
    assert bool(fuzz.problem_of(found, sound)) == wrong


@pytest.mark.parametrize(
    ("tried", "outcome", "text"),
    [
        (stand_ins.raising, "broken", "ValueError: model.onnx"),
        (stand_ins.crashing, "crashed", "SIGSEGV"),
        (stand_ins.leaving, "crashed", "the process ended with 0"),
        (stand_ins.hanging, "hung", "no end after 3 s"),
        (stand_ins.hungry, "broken", "MemoryError"),
    ],
)
def test_how_a_process_may_end(tried: Callable[[Path], tuple[str, str]], outcome: str, text: str) -> None:
    found = attempt(Path("model.onnx"), 3 if outcome == "hung" else PATIENCE, tried)
    assert found.outcome == outcome
    assert found.text.strip().endswith(text)


@pytest.mark.slow
def test_a_thousand_mutated_files_and_three_hundred_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["fuzz", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        fuzz.main()
    assert ended.value.code == 0
