"""Where things are kept that can be made again: verdicts about convolutions, compiled loops.

Not beside the sources: what an installer did not write there it does not remove, and what it leaves hides the package that is
installed next.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Return where this user's programs keep what can be made again, for this program (XDG Base Directory Specification).

    Raises RuntimeError where the user has no home.
    """
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        given = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    return base / "genie-onnx"
