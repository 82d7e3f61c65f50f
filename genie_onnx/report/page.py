"""report.html: everything known of a run in one file that needs nothing else, no network and no other file.

Contents -> a view of it in plain data -> templates/report.html.jinja

Names of models and nodes come from files of strangers. What the template writes is escaped (jinja2's autoescape; `tojson` for
the data that the script reads), the script puts them into the page as text only, and the page's Content-Security-Policy lets no
other script run and loads nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from genie_onnx.report.charts import chart
from genie_onnx.report.history import Curve
from genie_onnx.report.layout import BOX, layout

Json = Mapping[str, Any]
WORST = 400  # values and weights, each, whose histograms are shown: some megabytes at 8 bits
BOX_LETTERS = 23  # of a name, in a box
LEVELS = (30.0, 20.0, 10.0)  # dB: from each on a colour


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What there is to show. JSON forms are those of the files in the run directory."""

    model: str  # file name
    output: str  # file name
    run_dir: str
    command: str | None  # that made the run
    report: Json  # report.Report
    machines: Sequence[Mapping[str, str]]  # that worked on it
    pictures: Sequence[str]  # data URIs
    curves: Sequence[Curve]
    comparison: Json | None  # validate.layerwise.Findings
    blocks: Sequence[Json]  # in topological order: block, kind, nodes, inputs, outputs, weights; none: not known
    steps: Mapping[str, Sequence[float]]  # of each weight: its smallest, median and largest step size
    bits: Json | None  # bits.plan.BitPlan
    missing: Sequence[str]  # a sentence on each thing that could be here, and how to get it


def render(contents: Contents) -> str:
    """Return the page."""
    environment = _environment()
    assert environment.loader is not None
    script, style = (environment.loader.get_source(environment, name)[0] for name in ("report.js", "report.css"))
    comparison = contents.comparison and _bounded(contents.comparison)
    rows = _rows(contents)
    batches = [curve for curve in contents.curves if curve.stage == "images"]
    learned = {curve.name: chart([curve], 300, 90) for curve in contents.curves if curve.stage == "learn"}
    return environment.get_template("report.html.jinja").render(
        c=contents,
        report=contents.report,
        settings=dict(_flat(contents.report["settings"])),
        comparison=comparison,
        rows=rows,
        layers=_layers(contents.report),
        drawing=layout(contents.blocks) if contents.blocks else None,
        box=BOX,
        distillation=chart(batches, 480, 170) if batches else None,
        learned=learned,
        at_widths=[(f"at {width}", "num wide", "number") for width in contents.bits["blocks"][0]["damage"]]
        if contents.bits
        else [],
        wider=_wider(contents.bits or {}),
        # The browser compares this digest with that of the script, and runs no other.
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        script=script,
        style=style,
        data={
            "report": contents.report,
            "comparison": comparison,
            "blocks": rows,
            "steps": contents.steps,
        },
    )


@cache
def _environment() -> Environment:
    """What renders templates: one for a process, since compiling them takes longer than rendering does."""
    environment = Environment(
        loader=PackageLoader("genie_onnx.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": size,
        "short": short,
        "parts": parts,
        "tail": tail,
        "level": level,
        "figure": figure,
        "duration": duration,
    }
    return environment


def _layers(report: Json) -> dict[str, Any]:
    """Return how many weighted layers there are and how many run in integer kernels of onnxruntime (None: not known, or another
    runtime's file), why the others do not, and why products without weights do not."""
    kernels, kept = report["parity"]["kernels"], report["kept_float"]
    count = kernels.get("layers") if report["settings"]["target"]["in_onnxruntime"] else None
    if count is None:
        return {"count": None, "integer": None, "floats": kept, "without": {}}
    floats = kernels["float_layers"]
    without = {node: why for node, why in kept.items() if node not in floats}
    return {"count": count, "integer": count - len(floats), "floats": floats, "without": without}


def _wider(bits: Json) -> list[Json]:
    """Return the values of a plan that have more bits than were asked for; a plan of earlier versions knows none."""
    return [value for value in bits.get("values", []) if value["bits"] > min(map(int, value["damage"]))]


def _rows(contents: Contents) -> list[dict[str, Any]]:
    """Return what is known of each block, in the order of the network."""
    report = contents.report
    losses = {entry["block"]: entry for entry in report["blocks"]}
    found = {entry["block"]: entry for entry in (contents.comparison or {"blocks": ()})["blocks"]}
    blocks = contents.blocks or [
        {"block": name, "kind": "", "nodes": [], "inputs": [], "outputs": [], "weights": []} for name in losses
    ]
    rows = []
    for block in blocks:
        name = block["block"]
        loss, finding = losses.get(name), found.get(name)
        wbits = [report["weights"][weight] for weight in block["weights"] if weight in report["weights"]]
        abits = [report["activations"][value] for value in block["inputs"] if value in report["activations"]]
        rows.append(
            {
                **block,
                "wbits": min(wbits, default=None),
                "abits": finding["abits"] if finding else min(abits, default=None),
                "before": loss and loss["before"],
                "after": loss and loss["after"],
                "finding": finding,
            }
        )
    return rows


def _bounded(comparison: Json) -> Json:
    """Return `comparison`, in which lists are sorted by damage, with the histograms of the WORST of each alone."""
    bounded = dict(comparison)
    for kind in ("values", "weights"):
        bounded[kind] = [entry if place < WORST else {**entry, "histogram": []} for place, entry in enumerate(comparison[kind])]
    return bounded


def _flat(settings: Json, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield prefix + name, ", ".join(map(str, value)) or "none"
        else:
            yield prefix + name, str(value)


def size(count: float) -> str:
    """Return a number of bytes in MB or kB."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def duration(seconds: float) -> str:
    """Return a time as precisely as it is of interest: "2 h 10 min", "11 min", "1 min 9 s", "8 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    if minutes >= 10:
        return f"{minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def figure(number: float | None) -> str:
    """Return `number` to three digits; a dash where there is none."""
    return "-" if number is None else f"{number:.3g}"


def level(sqnr_db: float | None) -> int | None:
    """Return the colour of an SQNR: 0 (good) to 3; None where nothing was measured."""
    return None if sqnr_db is None else sum(sqnr_db < bound for bound in LEVELS)


def short(name: str) -> str:
    """Return the name without what exporters say twice: "/layer1/layer1.0/conv1/Conv" -> "layer1.0/conv1/Conv"."""
    pieces = [piece for piece in name.split("/") if piece]
    kept = [piece for piece, after in zip(pieces, [*pieces[1:], ""], strict=False) if not after.startswith(f"{piece}.")]
    return "/".join(kept) or name


def parts(name: str) -> list[str]:
    """Return the short name cut where a line may break."""
    return re.split(r"(?<=[/._])", short(name))


def tail(name: str) -> str:
    """Return as much of the short name's end as a box has room for, without the operator that exporters put there."""
    found = re.sub(r"/(Conv|ConvTranspose|Gemm|MatMul)$", "", short(name))
    return found if len(found) <= BOX_LETTERS else f"…{found[1 - BOX_LETTERS :]}"
