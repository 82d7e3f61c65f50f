"""Labels from text files: which picture is of which class, and in which order the classes are.

    labels.csv     path,label     a header is optional; where it names the two columns, others are passed over
    val.txt        path label     separated by a tab or spaces: ImageNet's validation set
    classes.txt    a name a line  or JSON: ["cat", "dog"], {"cat": 0}, {"0": "cat"} or Keras's {"0": ["n02123045", "tabby"]}

A label is a class index, or the name of a class.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie_onnx.data.pictures import is_picture
from genie_onnx.errors import DataError

PATHS = frozenset({"path", "file", "filename", "file_name", "image", "name"})  # what a header calls the columns
SHOWN = 80  # characters of a line that is none: behind a quote that does not end, all of the file is one
LABELS = frozenset({"label", "class", "target", "category", "class_name", "class_index"})
_WORDNET = re.compile(r"(n\d{8})\s+(.+)")  # a line of synset_words.txt: "n01440764 tench, Tinca tinca"


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The classes of a model in the order of its outputs. One may have several names; one of two classes counts for neither."""

    names: tuple[str, ...]
    indices: dict[str, int]


@dataclass(frozen=True)
class Row:
    """A line of a file of labels."""

    line: int  # from 1
    path: str
    label: str


def read_classes(file: Path) -> Classes:
    """Return the classes that a text or JSON file lists. Raises DataError."""
    text = _text(file)
    if file.suffix.lower() != ".json":
        listed = [_names(line.strip()) for line in text.splitlines() if line.strip()]
    else:
        try:
            listed = _from_json(json.loads(text))
        except ValueError as error:
            raise DataError(
                f'{file} does not list classes: {error}; known are ["cat", "dog"], {{"cat": 0, "dog": 1}}, '
                '{"0": "cat", "1": "dog"} and {"0": ["id", "cat"], ...}'
            ) from error
    if not listed:
        raise DataError(f"{file} lists no classes")
    count = Counter(name for names in listed for name in set(names))
    indices = {name: index for index, names in enumerate(listed) for name in names if count[name] == 1}
    return Classes(names=tuple(names[-1] for names in listed), indices=indices)


def read_labels(file: Path) -> tuple[list[Row], list[str]]:
    """Return the rows of a file of labels, and a sentence for every line that is none. Raises DataError where all are."""
    try:
        cells = list(_cells(_text(file)))
    except csv.Error as error:
        raise DataError(f"{file} cannot be read as CSV: {error}; is there a quote that does not end?") from error
    if not cells:
        raise DataError(f"{file} holds no labels")
    columns = _columns(cells[0][1])
    rows: list[Row] = []
    problems: list[str] = []
    for line, found in cells if columns is None else cells[1:]:
        at_path, at_label = columns or (0, 1)
        if len(found) <= max(at_path, at_label) or not found[at_path] or not found[at_label]:
            problems.append(f"{file}, line {line}: {','.join(found)[:SHOWN]!r} is not PATH,LABEL")
        elif not is_picture(Path(found[at_path])):
            problems.append(f"{file}, line {line}: {found[at_path]!r} is not the name of a picture (.jpg, .png, ...)")
        else:
            rows.append(Row(line, found[at_path], found[at_label]))
    if not rows:
        raise DataError(problems or f"{file} holds no labels")
    return rows, problems


def number(names: Iterable[str], classes: Classes | None) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the class index of each of `names`, less those that have none, and the names of all classes (() for bare indices).

    The order is that of `classes`; without, integers are indices, and names are sorted.
    """
    distinct = set(names)
    decimal = all(map(_is_index, distinct))
    if classes is not None and not (decimal and not distinct & set(classes.indices)):
        return {name: classes.indices[name] for name in distinct & set(classes.indices)}, classes.names
    if decimal:
        return {name: int(name) for name in distinct}, () if classes is None else classes.names
    ordered = tuple(sorted(distinct))
    return {name: index for index, name in enumerate(ordered)}, ordered


def mixed(rows: Sequence[Row]) -> Row | None:
    """Return the first row whose label is a name where others are indices, or an index where others are names."""
    first = _is_index(rows[0].label)
    return next((row for row in rows if _is_index(row.label) != first), None)


def _is_index(label: str) -> bool:
    return label.isdecimal() and len(label) < 10  # longer ones are names: times, serial numbers


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # spreadsheets begin a CSV with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as text: {error}") from error


def _cells(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line that is not empty."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = next((mark for mark in (",", ";", "\t") if mark in first), None)
    if separator is None:  # the label is behind the last space: paths may have some
        for line, content in enumerate(text.splitlines(), start=1):
            if content.strip():
                yield line, content.rsplit(maxsplit=1)
        return
    reader = csv.reader(text.splitlines(), delimiter=separator)
    for cells in reader:
        if any(map(str.strip, cells)):
            yield reader.line_num, [cell.strip() for cell in cells]


def _columns(cells: Sequence[str]) -> tuple[int, int] | None:
    """Return where a header says that path and label are; None where `cells` are no header."""
    lower = [cell.lower() for cell in cells]
    path = next((index for index, cell in enumerate(lower) if cell in PATHS), None)
    label = next((index for index, cell in enumerate(lower) if cell in LABELS), None)
    return None if path is None or label is None else (path, label)


def _names(line: str) -> list[str]:
    found = _WORDNET.fullmatch(line)
    return [line] if found is None else [line, *found.groups()]


def _from_json(found: Any) -> list[list[str]]:
    """Return the names of each class. Raises ValueError."""
    if isinstance(found, dict) and found and all(isinstance(index, int) for index in found.values()):
        found = {str(index): name for name, index in found.items()}
    if isinstance(found, dict):
        missing = [index for index in range(len(found)) if str(index) not in found]
        if missing:
            raise ValueError(f"it has {len(found)} classes, but none with index {missing[0]}")
        found = [found[str(index)] for index in range(len(found))]
    if not isinstance(found, list):
        raise ValueError("it is neither a list nor an object")
    listed = [names if isinstance(names, list) else [names] for names in found]
    if not all(names and all(isinstance(name, str) for name in names) for names in listed):
        raise ValueError("not every class has a name")
    return listed
