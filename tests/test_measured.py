"""The charts of README and docs: their numbers are those of benchmarks/RESULTS.md, and the pictures show these numbers."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8").splitlines()
MEASURED = tomllib.loads((ROOT / "benchmarks" / "measured.toml").read_text(encoding="utf-8"))
IMAGES = ROOT / "docs" / "images"


def entries(table: Any) -> Iterator[dict[str, Any]]:
    """Yield every entry below `table`."""
    if isinstance(table, dict) and "line" in table:
        yield table
    elif isinstance(table, dict | list):
        for inner in table.values() if isinstance(table, dict) else table:
            yield from entries(inner)


def numbers(text: str) -> set[float]:
    """Return the numbers in a line of Markdown: 1,345 is one, 106-134 are two."""
    return {float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}


def same_line(entry: dict[str, Any]) -> bool:
    """Whether the line of `entry` in RESULTS.md, or its lines, have all of its numbers; each has to be the only such line."""
    measured = {float(value) for value in entry.values() if isinstance(value, int | float)}
    found = [[line for line in RESULTS if part in line] for part in _lines(entry)]
    return all(len(lines) == 1 for lines in found) and measured <= numbers(" ".join(lines[0] for lines in found))


def _lines(entry: dict[str, Any]) -> list[str]:
    return [entry["line"]] if isinstance(entry["line"], str) else entry["line"]


def test_every_number_stands_in_the_results() -> None:
    every = list(entries(MEASURED))
    assert len(every) > 30
    assert [entry for entry in every if not same_line(entry)] == []


def test_another_number_is_noticed() -> None:
    entry = {**next(entries(MEASURED["time"])), "top1": 99.9}
    assert not same_line(entry)


def texts(picture: Path) -> list[str]:
    """Return the texts in an SVG file."""
    return ["".join(node.itertext()).strip() for node in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(
    ("picture", "table", "key"),
    [("before-after", "before_after", "value"), ("accuracy-time", "time", "top1"), ("accuracy-bits", "bits", "top1")],
)
def test_the_pictures_show_these_numbers(picture: str, table: str, key: str) -> None:
    """`python docs/charts.py` makes them again."""
    shown = texts(IMAGES / f"{picture}.svg")
    missing = [entry for entry in entries(MEASURED[table]) if f"{entry[key]:g}" not in shown]
    assert missing == []
