"""What README and docs tell a reader to type: fenced blocks of bash, console, python and toml, as single commands.

bash      a command a line (a backslash continues it; `a && b` are two)
console   `$ command`, and below it what it prints, where `...` stands for anything
python    a program; with a first line `# NAME.py` it is also a file of that name
toml      a file, named in its first line
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("bash", "console", "python", "toml")
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\S+\.(?:py|toml))")


@dataclass(frozen=True)
class Entry:
    """One thing to do at `place` (page:line): a command and what it prints (None: not said), or a program or a file."""

    place: str
    language: str
    text: str
    printed: str | None = None
    file: str | None = None  # under which `text` is saved


def entries(page: Path) -> list[Entry]:
    """Return what `page` tells to do, in order."""
    text = page.read_text(encoding="utf-8")
    found: list[Entry] = []
    for block in _BLOCK.finditer(text):
        language, inside = block["language"], re.sub(f"^{block['indent']}", "", block["text"], flags=re.MULTILINE)
        place = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, block.start()) + 1}"
        if language == "bash":
            found += [Entry(place, language, command) for command in shell_commands(inside)]
        elif language == "console":
            for part in re.split(r"^\$ ", inside, flags=re.MULTILINE)[1:]:
                command, _, printed = part.partition("\n")
                found.append(Entry(place, language, command, printed))
        elif language in RUN:
            name = _FILE.match(inside)
            found.append(Entry(place, language, inside, file=name and name[1]))
    return found


def shell_commands(text: str) -> list[str]:
    """Return the commands in a block of bash, without comments."""
    lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.replace("\\\n", " ").splitlines()]
    return [" ".join(command.split()) for line in lines for command in line.split(" && ") if command]
