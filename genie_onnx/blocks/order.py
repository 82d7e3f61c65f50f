"""Topological order of whatever has predecessors."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Mapping, Sequence, Set
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def topological(things: Sequence[T], before: Mapping[T, Set[T]]) -> list[T]:
    """Return `things` so that each comes after all of `before[thing]`; otherwise in the order given.

    What lies on a cycle, or behind one, is left out.
    """
    rank = {thing: i for i, thing in enumerate(things)}
    after: dict[T, list[T]] = {thing: [] for thing in things}
    waiting = {thing: len(before[thing]) for thing in things}
    for thing in things:
        for earlier in before[thing]:
            after[earlier].append(thing)
    ready = [rank[thing] for thing in things if not waiting[thing]]  # ascending, so already a heap
    order: list[T] = []
    while ready:
        thing = things[heapq.heappop(ready)]
        order.append(thing)
        for later in after[thing]:
            waiting[later] -= 1
            if not waiting[later]:
                heapq.heappush(ready, rank[later])
    return order
