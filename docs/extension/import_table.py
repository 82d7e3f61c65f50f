"""The directive `import-table`: who may import whom, from the table in tests/test_layers.py, which the source is held against."""

from __future__ import annotations

import runpy
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

TEST = Path(__file__).parents[2] / "tests" / "test_layers.py"


class ImportTable(SphinxDirective):
    """Puts a row for each room where it stands."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        self.env.note_dependency(str(TEST))
        layers = runpy.run_path(str(TEST))
        lines = ["| room | from genie_onnx | never |", "|---|---|---|"]
        for name, row in layers["ROWS"].items():
            lines.append(f"| `{name}` | {', '.join(row.may.split()) or 'nothing'} | {', '.join(sorted(row.never))} |")
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("import-table", ImportTable)
    return {"parallel_read_safe": True}
