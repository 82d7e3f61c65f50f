"""What `verify` found, as a table: one row a runtime."""

from __future__ import annotations

from genie_onnx_cli.show import console, layers, size, table

from genie_onnx import RuntimeFinding, Verification

_ROUNDING = 1e-5  # of the range
_CHANGES = 5  # lines; one tool that rewrites a file changes all of it


def verification(found: Verification) -> None:
    """Print a row for each runtime, then what is wrong with those that cannot use the file."""
    timed = any(row.milliseconds is not None for row in found.runtimes)
    rows = table("runtime", "file", "top-1", "max / mean error", "integer", *(["ms", "x float"] if timed else []))
    for row in found.runtimes:
        rows.add_row(*_cells(row), *(_times(row) if timed else ()))
    console.print(rows)
    console.print(
        f"top-1 and error: against the file computed node by node, on {found.samples} "
        f"{'of your' if found.images == 'data' else 'procedural'} images; errors as shares of an output's range, above "
        f"{100 * found.limit:g} % in the mean is wrong\n"
        "integer: layers (convolutions and products with weights) that compute in integers"
        + ("; ms: one batch, one thread, shortest of several runs" if timed else "")
    )
    for row in found.runtimes:
        if row.problem is not None:
            console.print(f"{row.runtime}: {row.problem}" + (" (what else it said: --json)" if row.messages else ""))
        if row.codes:
            console.print(_codes(row))
        for note in row.notes:
            console.print(f"{row.runtime}: {note}")
    for change in found.changes[:_CHANGES]:
        console.print(f"changed: {change}")
    if len(found.changes) > _CHANGES:
        console.print(f"changed: {len(found.changes) - _CHANGES} more (all of them: --json)")
    if found.layers is not None and any(row.runtime == "onnxruntime" for row in found.runtimes):
        layers(found.layers, found.float_layers, {})
    before = "" if found.float_bytes is None else f"{size(found.float_bytes)} float -> "
    console.print(f"size: {before}{size(found.bytes)} in the file")
    for notice in found.notices:
        console.print(f"note: {notice}")


def _cells(row: RuntimeFinding) -> list[str]:
    worst = row.worst
    verdict = "ok" if row.problem is None else "fails" if worst is None else "wrong"
    error = "" if worst is None else f"{_percent(worst.max_share)} / {_percent(worst.mean_share)} %"
    agreements = [output.agreement for output in row.outputs if output.agreement is not None]
    integer = "" if row.integer_layers is None else f"{row.integer_layers} of {row.integer_layers + (row.float_layers or 0)}"
    agreement = f"{100 * min(agreements):.1f} %" if agreements else ""
    return [f"{row.runtime} {row.version or ''}".rstrip(), verdict, agreement, error, integer]


def _codes(row: RuntimeFinding) -> str:
    """Say how many codes inside are not those of the file, and where most are."""
    count, moved = sum(value.count for value in row.codes), sum(value.moved for value in row.codes)
    if not moved:
        return f"{row.runtime}: all {count} codes of {len(row.codes)} values are those of the file"
    worst = max(row.codes, key=lambda value: value.moved / value.count)
    largest = max(value.largest for value in row.codes)
    return (
        f"{row.runtime}: {moved} of {count} codes of {len(row.codes)} values are not those of the file, by at most {largest}; "
        f"most in '{worst.value}', {100 * worst.moved / worst.count:.2g} % (each: --json)"
    )


def _percent(share: float) -> str:
    """Return a share in percent; what is only float rounding is not spelt out."""
    return f"{100 * share:.2g}" if share == 0 or not share < _ROUNDING else f"<{100 * _ROUNDING:g}"


def _times(row: RuntimeFinding) -> list[str]:
    milliseconds = "" if row.milliseconds is None else f"{row.milliseconds:.3g}"
    return [milliseconds, "" if row.speedup is None else f"{row.speedup:.2f}"]
