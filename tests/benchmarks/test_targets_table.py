"""targets.jsonl and the table that is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROW = {
    "target": "opencv",
    "tool": "opencv",
    "version": "4.14",
    "model": "digits",
    "bits": "W4A4",
    "images": 64,
    "agreement": 0.984375,
    "largest_error": 0.0123,
    "codes_exact": True,
    "integer_operators": "0",
    "size_bytes": 100165,
    "convert_s": 0.1,
    "peak_mib": 70,
    "date": "2026-12-01",
}


@pytest.fixture(autouse=True)
def _scripts_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_table_is_that_of_the_lines() -> None:
    from targets_table import FIELDS, UNKNOWN, read, rendered

    rows = read((BENCHMARKS / "targets.jsonl").read_text(encoding="utf-8").splitlines())
    assert (BENCHMARKS / "TARGETS.md").read_text(encoding="utf-8") == rendered(rows)
    for row in rows:
        numbers = (float, int)
        known = {key: kind for key, kind in FIELDS.items() if key not in UNKNOWN or row[key] is not None}
        assert all(isinstance(row[key], numbers if kind is float else kind) for key, kind in known.items()), row
        assert 0 <= row["agreement"] <= 1


def test_a_later_line_replaces_an_earlier_one() -> None:
    from targets_table import read, rendered

    rows = read(
        [json.dumps({**ROW, "agreement": 0.5}), json.dumps({**ROW, "bits": "W2A2", "codes_exact": False}), json.dumps(ROW)]
    )
    assert [row["bits"] for row in rows] == ["W4A4", "W2A2"]
    first, second = rendered(rows).splitlines()[-2:]
    assert first == "| `opencv` | opencv 4.14 | digits | W4A4 | 64 | 98.4 % | 1.2 % | exact | 0 | 100.2 | 0.1 | 70 | 2026-12-01 |"
    assert "**other**" in second


def test_a_line_with_other_fields_is_refused() -> None:
    from targets_table import read

    with pytest.raises(ValueError, match=r"line 1 lacks \['date'\] or has \['when'\]"):
        read([json.dumps({"when": 1, **{key: value for key, value in ROW.items() if key != "date"}})])
