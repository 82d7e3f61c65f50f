"""Choosing the selections (Slice, Split, Gather ...) that get a grid of their own, by what they lose without, before the run

calibration images -> float values of a selection and of its source -> the grid of both together, and that of the selection alone
    gain = SQNR(v, round on its own grid) - SQNR(v, round on the shared grid)        of the selected value v, in dB
A selection that keeps the range of its source gains nothing, and stays where it costs nothing: on the grid of its source.

Channels that a network reads apart have been seen to span 7 where their source spans 190: of 16 codes 2 were used, and 89 % of
plates read became 2 %.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable
from functools import partial

from genie_onnx.config import QuantizeConfig
from genie_onnx.errors import RunError
from genie_onnx.events import Notice, Step
from genie_onnx.grids.joins import lost_operands
from genie_onnx.grids.own import OwnGrid, OwnGrids, WideValue, own_grids_from_json
from genie_onnx.grids.value_samples import look
from genie_onnx.grids.wide import wide_values
from genie_onnx.images.kept import Calibration
from genie_onnx.machine.atomic import write_text
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import Placement, hand_out_floats, layers_behind, layers_beside, place, selections
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.run.directory import RunDirectory

GAIN = 6.0  # dB, what one bit more brings: an integer kernel is not given up for less
ENOUGH = 30.0  # dB on the shared grid: values that are this near lose nothing that shows beside 4-bit weights (20 dB)


def choose_own_grids(
    prepared: Prepared,
    config: QuantizeConfig,
    calibration: Calibration,
    run: RunDirectory,
    compute: Compute,
    progress: Callable[[Step | Notice], None],
) -> OwnGrids:
    """Return the grids that pay: what an earlier run left in `run`, else measured now and saved there; tells what was chosen.

    Some of `calibration.images` are used. The same seed gives the same grids on the same machine.
    """

    def choose() -> OwnGrids:
        saved = _saved(run, progress)
        if saved is not None:
            return saved
        found = measured(prepared, config, calibration, compute, progress)
        lost = lost_operands(prepared, config, calibration, compute, progress)
        placed = found.applied(prepared, config.placement, config.target.constraints)
        wide = wide_values(placed, config, calibration, compute, progress)
        found = with_float_layers(found, prepared, lost, wide)
        write_text(run.own_grids, found.to_json())
        return found

    chosen = compute.team.once(choose)
    for text in notices(chosen):
        progress(Notice(text))
    return chosen


def with_float_layers(found: OwnGrids, prepared: Prepared, lost: tuple[OwnGrid, ...], wide: tuple[WideValue, ...]) -> OwnGrids:
    """Return `found` with the Concats of `lost` and the values `wide`, unless no layer would be left to quantize."""
    known = {value for grid in (*found.grids, *lost) for value in grid.values}
    wide = tuple(value for value in wide if value.value not in known)
    layers = {
        **layers_behind(prepared.deploy, {value for grid in lost for value in grid.values}),
        **layers_beside(prepared.deploy, {value.value for value in wide}, {v for grid in found.grids for v in grid.values}),
    }
    quantised = {node for spec in prepared.placement.weights for node in spec.nodes}
    gone = tuple(str(node.name) for node in prepared.deploy.graph if node.name in layers.keys() & quantised)
    if not quantised.difference(gone):
        return found
    return dataclasses.replace(found, lost=lost, wide=wide, float_layers=gone)


def notices(chosen: OwnGrids) -> list[str]:
    """Return what a user should know of the grids chosen: a sentence for each, and what they cost."""
    texts = [f"A selection gets a grid of its own: {grid}." for grid in chosen.grids]
    texts += [f"Nothing would be left of one operand of a Concat: {grid}." for grid in chosen.lost]
    texts += [f"Too little would be left of the small channels of a value: {value}." for value in chosen.wide]
    if chosen.float_layers:
        nodes = ", ".join(f"'{node}'" for node in chosen.float_layers)
        cure = "scale that branch in the model, and the weights that read it by the inverse"
        way = f" To have integers there, {cure}." if chosen.lost else ""
        texts.append(f"Layers beside it stay in float: {nodes}.{way}")
    if chosen.float_nodes:
        nodes = ", ".join(f"'{node}'" for node in chosen.float_nodes)
        texts.append(f"What is selected from is not rounded before, so {nodes} must hand out floats: no integer kernel there.")
    return texts


def measured(
    prepared: Prepared,
    config: QuantizeConfig,
    calibration: Calibration,
    compute: Compute,
    progress: Callable[[Step], None] = lambda step: None,
) -> OwnGrids:
    """Return the grids that pay on some of the images, topological: one that pays is there when later ones are measured."""
    constraints = config.target.constraints

    def placed(own: Collection[str]) -> Placement:
        return place(prepared.deploy, config.placement, constraints, own)

    sources = {str(v.name): str(source.name) for v, source in selections(prepared.deploy)}
    everything = placed(sources)
    apart = [[v for v in spec.values if v in sources and sources[v] not in spec.values] for spec in everything.activations]
    image = prepared.network.inputs[0]  # 8-bit data already, its grid is not searched
    candidates = [values for values in apart if values and not _on_grid_of(image, values, prepared.placement)]
    if not candidates:
        return OwnGrids(grids=(), float_nodes=())
    touched = {spec.name: spec for values in candidates for v in values if (spec := prepared.placement.activation_of(v))}
    wanted = {v for spec in touched.values() for v in (*spec.values, *spec.roots)}
    seen = look(prepared, wanted, calibration.images, config.seed, compute, progress)
    sqnr = partial(seen.sqnr, headroom=calibration.headroom, constraints=constraints)

    chosen: list[OwnGrid] = []
    for values in candidates:
        own = {v for grid in chosen for v in grid.values}
        now, then = placed(own), placed(own.union(values))
        pairs = [(v, now.activation_of(v), then.activation_of(v)) for v in values]
        found = [
            OwnGrid(
                values=tuple(values),
                value=v,
                source=sources[v],
                bits=after.bits,
                shared_db=sqnr(v, before),
                own_db=sqnr(v, after),
            )
            for v, before, after in pairs
            if before is not None and after is not None
        ]
        best = max(found, key=lambda grid: grid.own_db - grid.shared_db, default=None)
        if best is not None and best.shared_db < ENOUGH and best.own_db - best.shared_db >= GAIN:
            chosen.append(best)
    own = {v for grid in chosen for v in grid.values}
    return OwnGrids(grids=tuple(chosen), float_nodes=hand_out_floats(prepared.deploy, own))


def _on_grid_of(image: str, values: Iterable[str], placement: Placement) -> bool:
    groups = (placement.activation_of(v) for v in values)
    return any(spec is None or image in spec.values for spec in groups)


def _saved(run: RunDirectory, progress: Callable[[Notice], None]) -> OwnGrids | None:
    if not run.own_grids.exists():
        return None
    try:
        return own_grids_from_json(run.own_grids.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RunError) as error:
        progress(Notice(f"Grids of selections are chosen again: {run.own_grids} cannot be read ({error})."))
        return None
