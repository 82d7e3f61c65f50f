"""The quotient of the data path by its regions, as linear runs of items; weightless runs joined to a neighbour.

An item is a region or a single node. A run is a longest sequence of items in which each is read by the next alone and reads
the one before alone. A weightless run (the Add or Concat of a long skip, a Resize, a pooling before a Concat)

    with one reader     goes to the front of the reader's run
    with more           goes to the end of the last run that feeds it and nothing else
    else                stays by itself

Each of these contracts an edge that is the only one out of its tail, so no cycle can arise, and no run gets a second output.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from genie_onnx.blocks.dataflow import Dataflow
from genie_onnx.blocks.regions import Region

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Item:
    """A region or one node. `nodes` ascending."""

    nodes: tuple[int, ...]
    kind: Literal["core", "gate", "layer", "op"]  # layer: one weighted node; op: no weights


@dataclass(eq=False)
class Run:
    """Items in topological order, linear but for what was put at the front. Merged in place by `linear_runs` only."""

    items: list[Item]
    readers: set[Run | None] = field(default_factory=set)  # None: a graph output
    feeds: set[Run] = field(default_factory=set)  # the runs this one reads

    @property
    def weighted(self) -> bool:
        """Whether any item has weights."""
        return any(item.kind != "op" for item in self.items)


def linear_runs(flow: Dataflow, regions: list[Region], reaches_weights: frozenset[int]) -> list[Run]:
    """Return the runs in topological order. `reaches_weights`: nodes from which a weighted node can be reached."""
    runs = _maximal(flow, _items(flow, regions))
    for run in list(runs):
        if run.weighted or run.items[-1].nodes[-1] not in reaches_weights:
            continue
        host = _host(run, runs)
        if host is not None:
            _merge(run, host)
            runs.remove(run)
    return _sorted(runs)


def _items(flow: Dataflow, regions: list[Region]) -> list[Item]:
    in_region = {i for region in regions for i in region.nodes}
    items = [Item(nodes=tuple(sorted(r.nodes)), kind=r.kind) for r in regions]
    singles = [i for i in range(flow.sink) if i not in in_region]
    return items + [Item(nodes=(i,), kind="layer" if i in flow.weighted else "op") for i in singles]


def _maximal(flow: Dataflow, items: list[Item]) -> list[Run]:
    owner = {i: item for item in items for i in item.nodes}
    after: dict[Item, set[Item | None]] = {item: set() for item in items}
    before: dict[Item, set[Item]] = {item: set() for item in items}
    for i, item in owner.items():
        for s in flow.successors[i]:
            target = None if s == flow.sink else owner[s]
            if target is not item:
                after[item].add(target)
                if target is not None:
                    before[target].add(item)
    order = topological(items, {item: before[item] for item in items}, {item: item.nodes[0] for item in items})
    run_of: dict[Item, Run] = {}
    runs: list[Run] = []
    for item in order:
        previous = next(iter(before[item])) if len(before[item]) == 1 else None
        if previous is not None and after[previous] == {item}:
            run_of[previous].items.append(item)
            run_of[item] = run_of[previous]
        else:
            run_of[item] = Run([item])
            runs.append(run_of[item])
    for run in runs:
        run.feeds = {run_of[b] for b in before[run.items[0]]}
        run.readers = {None if a is None else run_of[a] for a in after[run.items[-1]]}
    return runs


def _host(run: Run, runs: list[Run]) -> Run | None:
    if len(run.readers) == 1:
        return next(iter(run.readers))
    candidates = [r for r in runs if r in run.feeds and r.weighted and r.readers == {run}]
    return candidates[-1] if candidates else None


def _merge(run: Run, host: Run) -> None:
    if host in run.readers:
        host.items[:0] = run.items
        host.feeds = (host.feeds | run.feeds) - {run}
        for source in run.feeds:
            source.readers = {host if r is run else r for r in source.readers}
    else:
        host.items += run.items
        host.readers = run.readers
        host.feeds |= run.feeds - {host}
        for reader in run.readers:
            if reader is not None:
                reader.feeds = {host if f is run else f for f in reader.feeds}
        for source in run.feeds - {host}:
            source.readers = {host if r is run else r for r in source.readers}


def _sorted(runs: list[Run]) -> list[Run]:
    first = {run: min(i for item in run.items for i in item.nodes) for run in runs}
    return topological(runs, {run: run.feeds for run in runs}, first)


def topological(things: list[K], before: Mapping[K, set[K]], rank: Mapping[K, int]) -> list[K]:
    """Return `things` so that each comes after all of `before[thing]`; among those ready the smallest rank first."""
    waiting = {thing: len(before[thing]) for thing in things}
    after: dict[K, list[K]] = {thing: [] for thing in things}
    for thing in things:
        for b in before[thing]:
            after[b].append(thing)
    number = {thing: i for i, thing in enumerate(things)}
    ready = [(rank[t], number[t]) for t in things if not waiting[t]]
    heapq.heapify(ready)
    order: list[K] = []
    while ready:
        thing = things[heapq.heappop(ready)[1]]
        order.append(thing)
        for later in after[thing]:
            waiting[later] -= 1
            if not waiting[later]:
                heapq.heappush(ready, (rank[later], number[later]))
    return order
