"""What the export scripts of this folder share: a folder for each network, which is there once it is whole.

FOLDER/NET/NET.onnx        and weights beside it, where the exporter puts them there
FOLDER/NET/failure.txt     instead: the error, in one line
"""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

Export = Callable[[str, Path], None]
"""export(NET, FILE) writes FILE."""


def main(export: Export) -> None:
    """Export each network named on the command line, `SCRIPT FOLDER NET...`; one that fails stops none of the others."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    for name in names:
        part = folder / f"{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            export(name, part / f"{name}.onnx")
        except Exception as error:  # an exporter may raise anything, and the next network is another matter
            traceback.print_exc()
            shutil.rmtree(part)
            part.mkdir()
            (part / "failure.txt").write_text(f"{type(error).__name__}: {' '.join(str(error).split())}"[:500], encoding="utf-8")
        part.rename(folder / name)
        print(name, flush=True)
