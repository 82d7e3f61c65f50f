"""The list of files in docs/explanation/design.md, and the paths that the page names."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUMMARIES = runpy.run_path(str(ROOT / "docs" / "extension" / "summaries.py"))
listing, plain, summary = SUMMARIES["listing"], SUMMARIES["plain"], SUMMARIES["summary"]


def sections(lines: str) -> dict[str, set[str]]:
    """Return the files that are listed under each heading."""
    found: dict[str, set[str]] = {}
    for heading, file in re.findall(r"^(?:### `(.+)/`|`(\w+\.py)`)$", lines, flags=re.MULTILINE):
        if heading:
            found[heading] = set()
        else:
            found[list(found)[-1]].add(file)
    return found


def test_every_module_is_listed_in_its_room_with_what_it_says() -> None:
    text = "\n".join(listing(ROOT))
    listed = {f"{room}/{file}" for room, files in sections(text).items() for file in files}
    folders = ("genie_onnx", "cli", "benchmarks", "examples")
    files = {file.relative_to(ROOT) for folder in folders for file in (ROOT / folder).rglob("*.py")}
    assert listed == {file.as_posix() for file in files if file.name != "__init__.py"}
    assert {file.parent.as_posix() for file in files} == set(sections(text))
    assert f"### `genie_onnx/closed_form/`\n\n{plain(summary(ROOT / 'genie_onnx/closed_form/__init__.py'))}\n" in text
    assert f"`rounding.py`\n: {plain(summary(ROOT / 'genie_onnx/quant/rounding.py'))}\n" in text


def test_a_summary_is_the_first_paragraph(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text('"""What it does,\nand why.\n\nMore of it.\n"""\n', encoding="utf-8")
    assert summary(file) == "What it does, and why."
    file.write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"module\.py does not say what it is"):
        summary(file)


def test_a_summary_is_shown_as_it_stands() -> None:
    assert plain("codes [N, C] -> a * b, `x | *y*`, with --bn-from FILE") == (
        r"codes \[N, C\] -\> a \* b, `x | *y*`, with `--bn-from` FILE"
    )
    assert plain("second-order, a -- b") == "second-order, a -- b"


def test_paths_in_the_page_lead_to_files() -> None:
    page = (ROOT / "docs" / "explanation" / "design.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:genie_onnx|cli|tests|benchmarks)/[\w/.]*)`", page)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_room_is_in_the_picture_of_the_flow_or_below_it() -> None:
    page = (ROOT / "docs" / "explanation" / "design.md").read_text(encoding="utf-8")
    flow = page[page.index("## The flow") : page.index("Every arrow is")]
    rooms = {init.parent.name for init in (ROOT / "genie_onnx").glob("*/__init__.py")}
    assert {room for room in rooms if not re.search(rf"\b{room}\b", flow)} == set()
