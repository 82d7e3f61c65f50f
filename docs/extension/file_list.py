"""The directive `file-list`: every file of the package, the command line and the scripts, with what it says of itself."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from summaries import PACKAGES, SCRIPTS, listing

ROOT = Path(__file__).parents[2]


class FileList(SphinxDirective):
    """Puts a section for each room where it stands."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        for folder in (*PACKAGES, *SCRIPTS):
            for file in (ROOT / folder).rglob("*.py"):
                self.env.note_dependency(str(file))
        return self.parse_text_to_nodes("\n".join(listing(ROOT)), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("file-list", FileList)
    return {"parallel_read_safe": True}
