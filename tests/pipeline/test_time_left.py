"""The time left, on simulated clocks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from genie_onnx.events import Stage, Step
from genie_onnx.pipeline.time_left import Estimate, Part, TimeLeft


def blocks(costs: list[float], stage: Stage = "learn") -> list[Part]:
    """Parts of one stage."""
    return [Part(stage, index, seconds) for index, seconds in enumerate(costs)]


def played(parts: list[Part], slower: dict[Stage, float], pieces: int = 50) -> Iterator[tuple[float, Step]]:
    """Yield (now, step) of a run in which each part takes `slower` times as long as `parts` say, from 1000 s on."""
    now = 1000.0
    for part in parts:
        for iteration in range(pieces + 1):
            if iteration:
                now += part.seconds * slower[part.stage] / pieces
            yield now, Step(stage=part.stage, index=part.index, iteration=iteration, iterations=pieces)


def worst(parts: list[Part], slower: dict[Stage, float], since: float = 0.1) -> float:
    """The largest error of the time left after the share `since` of a run, as a share of what is truly left then."""
    estimate, told = TimeLeft(Estimate(tuple(parts))), list(played(parts, slower))
    end, begin = told[-1][0], told[0][0]
    errors = []
    for now, step in told:
        estimate.tell(step, now)
        if now - begin >= since * (end - begin) and end - now > 0.02 * (end - begin):
            errors.append(abs(estimate.seconds(now) / (end - now) - 1))
    return max(errors)


UNEVEN = [10.0, 1.0] * 6


@pytest.mark.parametrize("costs", [UNEVEN, UNEVEN[::-1], [1.0] * 11 + [10.0], [10.0] + [1.0] * 11])
@pytest.mark.parametrize("slower", [0.5, 1.0, 2.0])
def test_a_machine_of_another_speed_shows_after_a_tenth(costs: list[float], slower: float) -> None:
    parts = [Part("check", 0, 1.0), *blocks([20.0, 20.0], "images"), *blocks(costs), Part("export", 0, 2.0)]
    speeds: dict[Stage, float] = dict.fromkeys(("check", "images", "learn", "export"), slower)
    assert worst(parts, speeds) < 0.3
    assert worst(parts, speeds, since=0.5) < 0.1


def test_a_stage_judged_wrongly_is_corrected_by_itself_alone() -> None:
    parts = [*blocks([1.0] * 20, "images"), *blocks([5.0] * 20)]
    wrong: dict[Stage, float] = {"images": 1.0, "learn": 1.6}
    assert worst(parts, wrong, since=0.3) < 0.2
    follow = TimeLeft(Estimate(tuple(parts)))
    for now, step in played(parts, {"images": 3.0, "learn": 1.0}):
        follow.tell(step, now)
        if (step.stage, step.index, step.iteration) == ("learn", 5, 0):
            assert follow.seconds(now) == pytest.approx(75, rel=0.2)  # and not three times that


def test_before_the_first_step_it_is_the_estimate() -> None:
    assert TimeLeft(Estimate(tuple(blocks(UNEVEN)))).seconds(5.0) == pytest.approx(sum(UNEVEN))


def test_what_is_finished_already_counts_neither_as_done_nor_as_left() -> None:
    """Parts of an earlier run that only show in a jump: no speed follows from them."""
    follow = TimeLeft(Estimate(tuple(blocks([10.0] * 10))))
    follow.tell(Step(stage="learn", index=7, iterations=100), 0.0)
    assert follow.seconds(0.0) == pytest.approx(30)
    follow.tell(Step(stage="learn", index=7, iteration=100, iterations=100), 20.0)
    assert follow.seconds(20.0) == pytest.approx(40, rel=0.3)


def test_it_falls_between_two_steps_but_not_below_what_comes_after() -> None:
    follow = TimeLeft(Estimate((Part("export", 0, 10.0), *blocks([5.0]))))
    follow.tell(Step(stage="export"), 0.0)
    assert follow.seconds(4.0) == pytest.approx(11)
    assert follow.seconds(60.0) == pytest.approx(5)


def test_unknown_parts_are_nobodys_time() -> None:
    follow = TimeLeft(Estimate(tuple(blocks([10.0, 10.0]))))
    follow.tell(Step(stage="learn", index=0), 0.0)
    follow.tell(Step(stage="save"), 10.0)
    follow.tell(Step(stage="learn", index=1), 500.0)
    assert follow.seconds(500.0) == pytest.approx(10, rel=0.01)


def test_a_part_of_no_iterations_and_an_empty_estimate() -> None:
    follow = TimeLeft(Estimate(()))
    follow.tell(Step(stage="learn", iterations=0), 0.0)
    assert follow.seconds(1.0) == 0.0
    follow = TimeLeft(Estimate((*blocks([0.0, 3.0]),)))
    follow.tell(Step(stage="learn", iterations=0), 0.0)
    assert follow.seconds(0.0) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (
            [Part("images", 0, 180), *blocks([240, 240]), Part("export", 0, 60)],
            "12 minutes on this CPU: images 3, reconstruction 8, rest 1",
        ),
        ([*blocks([9000.0])], "2.5 hours on this CPU: reconstruction 2.5"),
        ([Part("images", 0, 3.21), Part("check", 0, 0.4)], "3.6 seconds on this CPU: images 3.2, rest 0.4"),
        ([], "0 seconds on this CPU"),
    ],
)
def test_words(parts: list[Part], text: str) -> None:
    assert Estimate(tuple(parts)).text("CPU") == f"about {text}"
