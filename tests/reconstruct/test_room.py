"""How large tensors of moments may be: by the budget of a step, never by what is free, and in a team by the first process."""

from __future__ import annotations

import torch

from genie_onnx.machine.compute import Compute
from genie_onnx.machine.memory import Budget
from genie_onnx.machine.team import Team
from genie_onnx.reconstruct.reading import COPIES, LEAST, ROOM, elements_for

CPU = torch.device("cpu")


def test_all_copies_of_a_tensor_fit_into_the_step() -> None:
    for step in (10**9, 10**10):
        found = elements_for(Compute(CPU, budget=Budget(compute=1, step=step)))
        assert step - 8 * COPIES < found * 8 * COPIES <= step


def test_what_is_free_does_not_matter_and_tiny_budgets_leave_small_layers_whole() -> None:
    one, other = (elements_for(Compute(CPU, budget=Budget(compute=free, step=10**9))) for free in (1, 10**12))
    assert one == other
    assert elements_for(Compute(CPU, budget=Budget(compute=1, step=500))) == LEAST
    assert elements_for(Compute(CPU)) == ROOM // (8 * COPIES)
    assert elements_for(Compute(CPU, budget=Budget(compute=1))) == ROOM // (8 * COPIES)


def test_a_team_takes_what_the_first_process_has() -> None:
    class Second(Team):
        def once(self, action):  # type: ignore[no-untyped-def]
            """See Team."""
            return 12345

    assert elements_for(Compute(CPU, budget=Budget(compute=1, step=10**9), team=Second())) == 12345
