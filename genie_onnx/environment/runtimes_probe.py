"""In which runtimes `verify` can run a file here, and so which targets' files."""

from __future__ import annotations

from collections.abc import Iterator

from genie_onnx.environment.finding import Finding, ok
from genie_onnx.targets import TARGETS
from genie_onnx.validate.runtimes import RUNTIMES, Runtime, is_installed


def probe() -> Iterator[Finding]:
    """The runtimes that are installed, and how the others are."""
    there = [row for row in RUNTIMES.values() if is_installed(row)]
    yield ok("verify", f"files can be run in {', '.join(row.name for row in there) or 'no runtime'}: {_targets(there)}")
    missing = [row.name for row in RUNTIMES.values() if row not in there]
    if missing:
        yield ok("verify", f"not installed, and needed for nothing else: {', '.join(missing)} (verify --with NAME says how)")


def _targets(rows: list[Runtime]) -> str:
    """Return the targets whose files these runtimes are to run."""
    names = {row.name for row in rows}
    found = [t.name for t in TARGETS.values() if t.name in names or ("onnxruntime" in names and t.in_onnxruntime)]
    return f"targets {', '.join(found)}" if found else "no target"
