"""What `evaluate` found as tables on the terminal."""

from __future__ import annotations

from pathlib import Path

from genie_onnx_cli.show import console, table

from genie_onnx import Evaluation, Figure, PairedDifference

RUNTIME = {"cpu": "on the CPU", "cuda": "on the GPU"}


def evaluation(found: Evaluation, worst: int | None) -> None:
    """Print the figures of each model, its differences to the first, and the `worst` most frequent confusions."""
    console.print(f"{found.samples} images, onnxruntime {RUNTIME[found.provider]}")
    names = list(found.models[0].figures)
    titles = _titles(found)
    rows = table("model", *(heading for name in names for heading in (name, "95 %")))
    for title, model in zip(titles, found.models, strict=True):
        rows.add_row(title, *(cell for name in names for cell in _cells(name, model.figures.get(name))))
    console.print(rows)
    if len(found.models) > 1:
        _differences(found, names, titles)
    for notice in found.notices:
        console.print(f"note: {notice}")
    if worst is not None:
        _worst(found, worst, titles)


def _differences(found: Evaluation, names: list[str], titles: list[str]) -> None:
    tested = any(pair.p_value is not None for model in found.models for pair in model.against_first.values())
    rows = table("model", "", "difference", "95 %", *(("won", "lost", "p", "same answer") if tested else ()))
    for title, model in zip(titles[1:], found.models[1:], strict=True):
        same = "" if model.agreement is None else f"{100 * model.agreement:.2f} %"
        for name in names:
            if name in model.against_first:
                pair = model.against_first[name]
                rows.add_row(title, name, *_cells(name, pair), *((*_test(pair), same) if tested else ()))
                title = same = ""
    console.print(f"\nless {titles[0]}, on the same images{', in percentage points' if tested else ''}:")
    console.print(rows)


def _worst(found: Evaluation, count: int, titles: list[str]) -> None:
    for title, model in zip(titles, found.models, strict=True):
        rows = table(f"{title}: images of class", "taken for", "images")
        for pair in model.confusions[:count]:
            rows.add_row(found.class_name(pair.label), found.class_name(pair.predicted), str(pair.count))
        console.print()
        console.print(rows)


def _titles(found: Evaluation) -> list[str]:
    """Return the file names of the models, or their paths where two files have one name."""
    names = [Path(model.model).name for model in found.models]
    return names if len(set(names)) == len(names) else [model.model for model in found.models]


def _cells(name: str, figure: Figure | None) -> tuple[str, str]:
    """Return a number and its interval: shares in percent, their differences with a sign."""
    if figure is None:
        return "", ""
    share = name in ("top-1", "top-5")
    sign = "+" if isinstance(figure, PairedDifference) else ""

    def text(value: float) -> str:
        return f"{100 * value:{sign}.2f}" if share else f"{value:{sign}.4g}"

    interval = "" if figure.low is None or figure.high is None else f"{text(figure.low)} to {text(figure.high)}"
    return text(figure.value) + (" %" if share and not sign else ""), interval


def _test(pair: PairedDifference) -> tuple[str, str, str]:
    """Return how many images only one of two models has right, and the probability of it by chance (McNemar)."""
    if pair.p_value is None:
        return "", "", ""
    return str(pair.won), str(pair.lost), f"{pair.p_value:.2g}"
