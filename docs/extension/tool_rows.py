"""The table of tools in reference/targets.md, from the data of genie_onnx.TOOLS: `python docs/extension/tool_rows.py` writes it.

It stands in the page itself, so that it is read without Sphinx too; a test compares the two.
"""

from __future__ import annotations

from pathlib import Path

from genie_onnx import TOOLS, Tool

PAGE = Path(__file__).parents[1] / "reference" / "targets.md"
BEGIN, END = "<!-- tools: written by docs/extension/tool_rows.py -->\n", "<!-- end of tools -->\n"
HEAD = (
    "| tool | give | seen in | codes of weights | values | computes in | how it was seen | what is lost | date |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def table() -> str:
    """Return the table in Markdown."""
    return HEAD + "".join(map(row, TOOLS.values()))


def row(tool: Tool) -> str:
    """Return the row of `tool`."""
    give = f"`{tool.command}`" if tool.target else "nothing"
    lost = "; ".join(part for part in (tool.lost, f"`portable`: {tool.not_portable}" if tool.not_portable else "") if part)
    cells = [tool.name, give, tool.version, tool.codes, tool.values, tool.kernels, tool.how, lost, tool.date]
    return "| " + " | ".join((cell or "-").replace("|", "\\|") for cell in cells) + " |\n"


def with_table(page: str) -> str:
    """Return the text of a page with the table between its marks. Raises ValueError where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN.strip()} ... {END.strip()}")
    return before + BEGIN + "\n" + table() + "\n" + END + after


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
