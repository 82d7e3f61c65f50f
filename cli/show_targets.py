"""The rows of TARGETS, on the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from genie_onnx_cli.show import console
from rich.table import Table

from genie_onnx import Target

GRIDS = {"affine": "asymmetric", "symmetric": "symmetric"}


def overview(rows: Iterable[Target]) -> None:
    """Print a line each: what decides whether a file fits."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("target", "weights", "values", "of 8 bits", "Conv -> Add", "bias", "opset", "verified"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        c, f = row.constraints, row.form
        weights = f"{_range(c.weight_bits)} in {f.weights.upper()}"
        values = f"{_range(c.value_bits)} in {f.values.upper()}"
        if f.style == "float":
            weights, values = f"{_range(c.weight_bits)}, rounded floats", f"{_range(c.value_bits)}, in the JSON"
        opset = f"13..{f.largest_opset or ''}" if f.weights == "int8" else "21.."
        table.add_row(
            row.name,
            weights,
            values,
            GRIDS[c.wide_values],
            "Q/DQ" if c.sums == "rounded" else "fused",
            f.bias,
            opset,
            row.verified.partition(":")[0],
        )
    console.print(table)
    console.print("\ngenie-onnx targets NAME: all of a row, with its sources")


def details(rows: Iterable[Target]) -> None:
    """Print everything in each row."""
    for row in rows:
        c, f = row.constraints, row.form
        lines = {
            "read by": row.reads,
            "weights": f"{_range(c.weight_bits)} bits, one scale a {c.weight_scale}, stored as {f.weights.upper()}; "
            + ("symmetric" if c.weight_grid == "symmetric" else "asymmetric below 7 bits"),
            "values": f"{_range(c.value_bits)} bits, stored as {f.values.upper()}; grids of 8 bits are {GRIDS[c.wide_values]}",
            "scales": "powers of two" if c.scales == "power-of-two" else "any",
            "below 8 bits": "Clip on the codes, between Q and DQ" if f.clip == "codes" else "Clip on the floats, before Q",
            "Conv -> Add": "Q/DQ between them" if c.sums == "rounded" else "none between them: they are fused",
            "outputs": "rounded" if c.outputs == "rounded" else "float",
            "bias": f.bias,
            "opset": f"at most {f.largest_opset}" if f.largest_opset else "the model's, 13 or later, 21 for INT4",
            "batch": f.batch,
            "file": "QDQ" if f.style == "qdq" else "float, with the grids in the JSON file beside it",
            "limits": row.limits or "-",
            "verified": row.verified,
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


def _range(bits: tuple[int, int]) -> str:
    return f"{bits[0]}" if bits[0] == bits[1] else f"{bits[0]}..{bits[1]}"
