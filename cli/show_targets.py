"""The rows of TARGETS, on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from genie_onnx_cli.show import console
from rich.table import Table

from genie_onnx import Form, Target

_FILES = {
    "qdq": "QDQ",
    "float": "float, with the grids in the JSON file beside it",
    "qonnx": "QONNX: Quant nodes on floats",
}
_CLIPS = {"codes": "Clip on the codes, between Q and DQ", "floats": "Clip on the floats, before Q"}
_BELOW = {"qonnx": "Quant has the true bits"}
_SCALES = {"channel": "channel", "tensor": "tensor", "mixed": "channel of a convolution of one group, or else a tensor"}

COLUMNS = ("target", "weights", "values", "Conv -> Add", "bias", "opset", "batch")
VERIFIED = "seen to work in"
WIDEST = 1000  # columns, more than the table takes
NOTES = (
    "bits, and how they are stored; sym.: symmetric grids (of values: those of 8 bits)",
    "all of a row: genie-onnx targets NAME",
)


def overview(rows: Iterable[Target]) -> None:
    """Print a line each: what decides whether a file fits; on a narrow terminal, where it was seen to work stands below."""
    lines = [(_decisive(row), ", ".join(row.verified) or "-") for row in rows]
    parts = [_table((*COLUMNS, VERIFIED), [(*cells, verified) for cells, verified in lines])]
    if not _fits(parts[0]):
        decisive = [cells for cells, _ in lines]
        first = _table(COLUMNS, decisive)
        verified_in = [(cells[0], verified) for cells, verified in lines]
        parts = [first if _fits(first) else _table(COLUMNS, decisive, tight=True), _table((COLUMNS[0], VERIFIED), verified_in)]
    for part in parts:
        console.print(part)
        console.print()
    for note in NOTES:
        console.print(note, soft_wrap=False)


def _decisive(row: Target) -> tuple[str, ...]:
    """Return what decides whether a file fits, in the order of COLUMNS."""
    c, f = row.constraints, row.form
    symmetric = " sym." if c.weight_grid == "symmetric" else "", " sym." if c.wide_values == "symmetric" else ""
    stored = {"float": ("float", "JSON"), "qonnx": ("Quant", "Quant")}
    forms = stored.get(f.style, (f.weights.upper(), f.values.upper()))
    return (
        row.name,
        f"{_range(c.weight_bits)} {forms[0]}{symmetric[0]}",
        f"{_range(c.value_bits)} {forms[1]}{symmetric[1]}",
        "Q/DQ" if c.sums == "rounded" else "fused",
        f.bias,
        "21.." if f.weights == "int4" else f"13..{f.largest_opset or ''}",
        "fixed" if f.batch == "fixed" else "free",
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, tight: bool = False) -> Table:
    """Return a table in which only whole words go to the next line; `tight`: each of them, in columns of the longest word."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading, *cells in zip(headings, *rows, strict=True):
        longest = max(len(word) for text in (heading, *cells) for word in text.split())
        made.add_column(heading, min_width=longest, width=longest if tight else None)
    for row in rows:
        made.add_row(*row)
    return made


def _fits(table: Table) -> bool:
    """Whether the terminal is wide enough for each row of `table` to be one line."""
    return console.measure(table, options=console.options.update(width=WIDEST)).maximum <= console.width


def details(rows: Iterable[Target]) -> None:
    """Print everything in each row."""
    for row in rows:
        c, f = row.constraints, row.form
        lines = {
            "read by": row.reads,
            "weights": f"{_range(c.weight_bits)} bits, one scale a {_SCALES[c.weight_scale]}, stored as {_stored(f, f.weights)}; "
            + ("symmetric" if c.weight_grid == "symmetric" else "asymmetric below 7 bits"),
            "values": f"{_range(c.value_bits)} bits, stored as {_stored(f, f.values)}"
            + ("; unsigned from 0 on, or symmetric" if c.value_grid == "unshifted" else "")
            + ("; grids of 8 bits are symmetric" if c.wide_values == "symmetric" else ""),
            "scales": "powers of two" if c.scales == "power-of-two" else "any",
            "below 8 bits": _BELOW.get(f.style) or _CLIPS[f.clip],
            "Conv -> Add": "Q/DQ between them" if c.sums == "rounded" else "none between them: they are fused",
            "outputs": "rounded" if c.outputs == "rounded" else "float",
            "bias": "float, in steps of its sums" if (f.style, f.bias) == ("qonnx", "int32") else f.bias,
            "opset": f"at most {f.largest_opset}" if f.largest_opset else "the model's, 13 or later, 21 for INT4",
            "batch": f.batch,
            "file": _FILES[f.style],
            "limits": row.limits or "-",
            "seen to work": "\n".join(row.verified) or "not verified: it follows the documents below",
            "sources": "\n".join(row.sources) or "-",
        }
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, text in lines.items():
            table.add_row(name, text)
        console.print(row.name, style="bold")
        console.print(table)
        console.print()


def _stored(form: Form, kind: str) -> str:
    """Return how numbers are stored that `form` has as `kind` in QDQ files."""
    return kind.upper() if form.style != "qonnx" else "floats behind Quant"


def _range(bits: tuple[int, int]) -> str:
    return f"{bits[0]}" if bits[0] == bits[1] else f"{bits[0]}..{bits[1]}"
