"""What a run tells while it goes, beside how far it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Notice:
    """Something that a user should know and that only turned up during the run: one sentence, also kept in the report."""

    text: str
