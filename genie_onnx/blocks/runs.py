"""The quotient of the data path by its regions, as linear runs of items; weightless runs joined to a neighbour.

An item is a region or a single node. A run is a longest sequence of items in which each is read by the next alone and reads
the one before alone. A weightless run (the Add or Concat of a long skip, a Resize, a pooling before a Concat)

    with one reader     goes to the front of the reader's run
    with more           goes to the end of the last run that feeds it and nothing else
    else                stays by itself

Each of these contracts an edge that is the only one out of its tail, so no cycle can arise, and no run gets a second output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from genie_onnx.blocks.dataflow import Dataflow
from genie_onnx.blocks.order import topological
from genie_onnx.blocks.regions import Region


@dataclass(frozen=True, kw_only=True)
class Item:
    """A region or one node. `nodes` ascending."""

    nodes: tuple[int, ...]
    kind: Literal["core", "gate", "layer", "op"]  # layer: one weighted node; op: no weights


@dataclass(eq=False)
class Run:
    """Items in topological order, linear but for what was joined to the front. Changed only while `linear_runs` builds it."""

    items: list[Item]
    readers: set[Run | None] = field(default_factory=set)  # the runs that read this one; None: a graph output
    feeds: set[Run] = field(default_factory=set)  # the runs that this one reads

    @property
    def weighted(self) -> bool:
        """Whether any item has weights."""
        return any(item.kind != "op" for item in self.items)


def linear_runs(flow: Dataflow, regions: list[Region], reaches_weights: frozenset[int]) -> list[Run]:
    """Return the runs. `reaches_weights`: nodes from which a weighted node can be reached."""
    runs = _maximal(flow, _items(flow, regions))
    for run in list(runs):
        if run.weighted or run.items[-1].nodes[-1] not in reaches_weights:
            continue
        host = _host(run, runs)
        if host is not None:
            _join(run, host)
            runs.remove(run)
    return runs


def _items(flow: Dataflow, regions: list[Region]) -> list[Item]:
    in_region = {i for region in regions for i in region.nodes}
    items = [Item(nodes=tuple(sorted(r.nodes)), kind=r.kind) for r in regions]
    singles = [i for i in range(flow.sink) if i not in in_region]
    items += [Item(nodes=(i,), kind="layer" if i in flow.weighted else "op") for i in singles]
    return sorted(items, key=lambda item: item.nodes)


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
    run_of: dict[Item, Run] = {}
    runs: list[Run] = []
    for item in topological(items, before):
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
    """Return the run that a weightless run is joined to, None where it stays by itself."""
    if len(run.readers) == 1:
        return next(iter(run.readers))
    candidates = [r for r in runs if r in run.feeds and r.weighted and r.readers == {run}]
    return candidates[-1] if candidates else None


def _join(run: Run, host: Run) -> None:
    """Put `run` before `host` where host reads it, else behind. One of the two has no other neighbour on that side."""
    host.items = run.items + host.items if host in run.readers else host.items + run.items
    host.readers = (host.readers | run.readers) - {run, host}
    host.feeds = (host.feeds | run.feeds) - {run, host}
    for source in run.feeds - {host}:
        source.readers = (source.readers - {run}) | {host}
    for reader in run.readers - {host}:
        if reader is not None:
            reader.feeds = (reader.feeds - {run}) | {host}
