"""Is a file still the one that was written? Its scales and codes, against its own metadata and the encodings beside it.

Whoever ruins a file afterwards (a float16 converter, another quantiser, a hand) leaves one that runs and agrees with itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from genie_onnx.validate.checksums import changes
from genie_onnx.validate.encodings_beside import other_grids, read_encodings

UNCHECKED = "scales and codes of this file are unchecked: its metadata have no checksums, as those of earlier versions"
NOT_OURS = "scales and codes of this file are unchecked: genie-onnx did not write it, or its metadata were removed"


@dataclass(frozen=True)
class Integrity:
    """`changes`: a sentence each. `notices`: what could not be looked at."""

    changes: tuple[str, ...]
    notices: tuple[str, ...]


def integrity(path: Path, proto: onnx.ModelProto) -> Integrity:
    """Return what of `proto`, loaded from `path`, is not as it was written. Raises ModelError where its checksums are damaged."""
    found, notices = changes(proto), list[str]()
    if found is None:
        ours = any(entry.key == "genie_onnx.weights" for entry in proto.metadata_props)
        notices.append(UNCHECKED if ours else NOT_OURS)
    encodings = read_encodings(path)
    if isinstance(encodings, str):
        notices.append(encodings)
    elif encodings is not None:
        if found is None:
            notices[:] = ["codes of this file are unchecked: there are no checksums in it; its grids are those of its encodings"]
        found = other_grids(proto, encodings) | (found or {})
    return Integrity(tuple((found or {}).values()), tuple(notices))
