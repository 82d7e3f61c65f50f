"""The directive `target-rows`: the table of targets, from the data that `--target` takes them from (genie_onnx.TARGETS)."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from genie_onnx import TARGETS, Target


class TargetRows(SphinxDirective):
    """Puts a row for each target where it stands."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        head = "| target | read by | bits: weights, values | limits | seen to work in | sources |\n|---|---|---|---|---|---|"
        return self.parse_text_to_nodes("\n".join([head, *map(row, TARGETS.values())]))


def row(target: Target) -> str:
    """Return the row of `target` in Markdown."""
    constraints = target.constraints
    bits = f"{span(constraints.weight_bits)}, {span(constraints.value_bits)}"
    links = " ".join(
        f"[{number}]({source})" if source.startswith("https") and " " not in source else source
        for number, source in enumerate(target.sources, start=1)
    )
    cells = [f"`{target.name}`", target.reads, bits, target.limits, ", ".join(target.verified) or "not at hand", links]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def span(bits: tuple[int, int]) -> str:
    """Return a smallest and a largest number of bits in words."""
    low, high = bits
    return f"{low}" if low == high else f"{low} to {high}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("target-rows", TargetRows)
    return {"parallel_read_safe": True}
