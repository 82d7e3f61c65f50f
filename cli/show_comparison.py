"""What `compare` found, as tables of the worst first; the diagnosis last, where it stays on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from genie_onnx_cli.show import console, table

from genie_onnx import Advice, BlockFinding, Effect, Findings, ValueFinding, WeightFinding

T = TypeVar("T")
LEAST_NAME = 24  # characters


def comparison(found: Findings, rows: int | None) -> None:
    """Print at most `rows` of each table (None: all)."""
    _weights(found.weights, rows)
    _values(found.values, rows)
    _blocks(found, rows)
    outputs = table(f"output, on {found.samples} {_IMAGES[found.images]} images", "SQNR dB", "cosine", "top-1 agreement")
    for output in found.outputs:
        outputs.add_row(output.name, f"{output.sqnr_db:.1f}", f"{output.cosine:.4f}", _share(output.agreement, 1))
    console.print(outputs)
    for notice in found.notices:
        console.print(f"note: {notice}")
    if found.images == "procedural":
        console.print("note: compared on made-up images; --data with some of your own tells more.")
    console.print("\ndiagnosis", style="bold")
    for advice in found.diagnosis:
        _advice(advice)


_IMAGES = {"data": "of your", "calibration": "calibration", "procedural": "procedural"}


def _blocks(found: Findings, rows: int | None) -> None:
    shown = [block for block in found.blocks if block.weights or block.values]
    measured = any(block.share is not None for block in shown)
    extra = ("share", "alone dB", "all but dB") if measured else ()
    lines = [
        (block.block, _bits(block), f"{block.sqnr_db:.1f}", *(_effects(block) if measured else ()))
        for block in _first(shown, rows)
    ]
    _table(("block", "bits W/A", "SQNR dB", *extra), lines)
    _left_out(shown, rows)
    if measured:
        console.print(
            "SQNR of what the block makes, everything before it quantised too; share: of the noise at the outputs; alone, all "
            f"but: the outputs with this block alone quantised, and with all but this one (on {found.effect_samples} images).\n"
            "Blocks that learned make up for those before them: without the noise they expect, outputs can be worse.\n"
        )
    else:
        console.print("SQNR of what the block makes, everything before it quantised too; worst: what noise grows most in\n")


def _effects(block: BlockFinding) -> tuple[str, str, str]:
    return _share(block.share, 0), _effect(block.alone), _effect(block.all_but)


def _effect(effect: Effect | None) -> str:
    if effect is None:
        return ""
    return f"{effect.sqnr_db:.1f}" + ("" if effect.agreement is None else f" ({100 * effect.agreement:.0f} %)")


def _values(values: Sequence[ValueFinding], rows: int | None) -> None:
    lines = [
        (
            value.value,
            f"{value.bits}",
            f"{value.rounding_db:.1f}",
            f"{value.sqnr_db:.1f}",
            _share(value.saturated, 1),
            f"{value.used}/{value.levels}",
            _range(value.low, value.high),
            _range(value.grid_low, value.grid_high),
        )
        for value in _first(values, rows)
    ]
    _table(("value", "bits", "rounding dB", "SQNR dB", "outside", "codes", "seen", "grid"), lines)
    _left_out(values, rows)
    console.print(
        "rounding: what the value's own grid costs; SQNR: with everything before it; outside: of the grid; codes: used of those "
        "there are\n"
    )


def _weights(weights: Sequence[WeightFinding], rows: int | None) -> None:
    lines = [
        (
            weight.weight,
            weight.operator,
            f"{weight.bits}",
            f"{weight.sqnr_db:.1f}",
            f"{weight.used}/{weight.levels}",
            f"{weight.used_median:g}",
            _range(weight.low, weight.high),
            _range(weight.grid_low, weight.grid_high),
        )
        for weight in _first(weights, rows)
    ]
    _table(("weight", "operator", "bits", "SQNR dB", "codes", "a channel", "floats", "grid"), lines)
    _left_out(weights, rows)
    console.print("")


def _advice(advice: Advice) -> None:
    console.print(f"* {advice.text}")
    if advice.command:
        console.print(f"    {advice.command}")


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows whose first column is a name; where there is no room for one, it loses its beginning."""
    cells_and_words = ([*(row[k] for row in rows), *headings[k].split()] for k in range(1, len(headings)))
    room = max(LEAST_NAME, console.width - sum(max(map(len, texts)) + 2 for texts in cells_and_words))
    lines = table(*headings)
    for name, *cells in rows:
        lines.add_row(name if len(name) <= room else f"...{name[3 - room :]}", *cells)
    console.print(lines)


def _first(things: Sequence[T], rows: int | None) -> Sequence[T]:
    return things if rows is None else things[:rows]


def _left_out(things: Sequence[T], rows: int | None) -> None:
    if rows is not None and len(things) > rows:
        console.print(f"... and {len(things) - rows} more (--rows all)")


def _bits(block: BlockFinding) -> str:
    return f"{block.wbits or '-'}/{block.abits or '-'}"


def _share(share: float | None, digits: int) -> str:
    return "" if share is None else f"{100 * share:.{digits}f} %"


def _range(low: float, high: float) -> str:
    return f"{low:.2g}..{high:.2g}"
