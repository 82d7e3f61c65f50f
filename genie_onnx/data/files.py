"""What the user's paths hold: picture folders, pictures, .npy and .npz files; labels where they are asked for.

Everything that is wrong with any path is found here, from names and headers, before a picture is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from genie_onnx.data import arrays, pictures
from genie_onnx.data.arrays import ArrayFile, open_array
from genie_onnx.data.labels import Classes, mixed, number, read_classes, read_labels
from genie_onnx.data.pictures import find_pictures, is_picture
from genie_onnx.errors import DataError
from genie_onnx.framing import Layout

PathLike = str | os.PathLike[str]
SHOWN = 5  # problems listed one by one; the rest is counted


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Picture files, one sample each."""

    files: tuple[Path, ...]
    labels: np.ndarray | None = None  # class indices, int64 [N]
    classes: tuple[str, ...] = ()  # their names, in the order of the indices; (): not known

    def __len__(self) -> int:
        return len(self.files)


Source = Pictures | ArrayFile


def listed(paths: PathLike | Sequence[PathLike]) -> tuple[PathLike, ...]:
    """Return one path, or several, as several."""
    return (paths,) if isinstance(paths, str | os.PathLike) else tuple(paths)


def open_sources(paths: Sequence[PathLike], shape: tuple[int, int, int], layout: Layout = "nchw") -> list[Source]:
    """Return what each path holds for a model that takes `shape` (C, H, W), in this `layout`.

    Raises DataError with all that cannot be used.
    """
    problems: list[str] = [] if paths else ["no data was given"]
    sources: list[Source] = []
    for path in map(Path, paths):
        try:
            sources.append(_open(path, shape, layout))
        except DataError as error:
            problems += error.problems
    refuse(problems)
    return sources


def open_labelled_sources(
    paths: Sequence[PathLike],
    shape: tuple[int, int, int],
    labels: PathLike | None = None,
    classes: PathLike | None = None,
    layout: Layout = "nchw",
) -> list[Source]:
    """Return what each path holds, all of it labelled: folders are trees ROOT/CLASS/**/picture, files have an array `labels`.

    With a file of `labels` (data.labels) the samples are the pictures it names, each in one of the folders `paths` or beside the
    file itself. Classes are in the order of the file `classes`; else integers are class indices, and names are sorted.
    Raises DataError with everything that cannot be used.
    """
    order = None if classes is None else read_classes(Path(classes))
    if labels is not None:
        return [_listed(Path(labels), [Path(path) for path in paths], order)]
    problems: list[str] = [] if paths else ["no data was given"]
    trees = {path: find_pictures(path) for path in map(Path, paths) if path.is_dir()}
    folders = {_class_name(root, file) for root, files in trees.items() for file in files if file.parent != root}
    indices, names = number(folders, order)
    problems += [f"the class folder {name!r} is not in {classes}" for name in sorted(folders - set(indices))]
    sources: list[Source] = []
    for path in map(Path, paths):
        if path in trees:
            stray = next((file for file in trees[path] if file.parent == path), None)
            if stray or not trees[path]:
                found = f"{stray} lies in no class folder" if stray else "it holds no pictures"
                problems.append(
                    f"{path} is no tree of class folders ({path}/CLASS/picture): {found}; labels of single pictures are given "
                    "with --labels FILE"
                )
            elif not problems:
                numbers = np.array([indices[_class_name(path, file)] for file in trees[path]], dtype=np.int64)
                sources.append(Pictures(files=tuple(trees[path]), labels=numbers, classes=names))
            continue
        try:
            source = _open(path, shape, layout)
        except DataError as error:
            problems += error.problems
            continue
        if source.labels is None:
            problems.append(
                f"{path} has no labels: give a tree of class folders, an .npz with integers `labels` [N] beside its images, or "
                "pictures with --labels FILE"
            )
        sources.append(replace(source, classes=() if order is None else order.names))
    refuse(problems)
    return sources


def _listed(file: Path, folders: Sequence[Path], order: Classes | None) -> Pictures:
    """Return the pictures that a file of labels names. Raises DataError with every line that cannot be used."""
    problems = [f"{path} is no folder: with --labels, --data is where the pictures are" for path in folders if not path.is_dir()]
    refuse(problems)
    rows, problems = read_labels(file)
    indices, names = number((row.label for row in rows), order)
    odd = mixed(rows) if order is None else None
    if odd is not None:
        problems.append(
            f"{file}, line {odd.line}: {odd.label!r}, but line {rows[0].line} has {rows[0].label!r}: indices or names, not both"
        )
    files: dict[Path, int] = {}
    for row in rows:
        places = [base / row.path for base in (*folders, file.parent)]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            problems.append(f"{file}, line {row.line}: there is no {' or '.join(dict.fromkeys(map(str, places)))}")
        elif row.label not in indices:
            problems.append(
                f"{file}, line {row.line}: {row.label!r} is no class, or one of several of that name, of the list of classes"
            )
        elif files.setdefault(found, indices[row.label]) != indices[row.label]:
            problems.append(f"{file}, line {row.line}: {row.path} had another label before")
    refuse(problems)
    return Pictures(files=tuple(files), labels=np.array(list(files.values()), dtype=np.int64), classes=names)


def refuse(problems: Sequence[str]) -> None:
    """Raise DataError with the first problems and the number of the others, if there are any."""
    if problems:
        rest = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError([*problems[:SHOWN], *rest])


def _open(path: Path, shape: tuple[int, int, int], layout: Layout) -> Source:
    known = f"pictures ({', '.join(pictures.SUFFIXES)})"
    if path.is_dir():
        files = find_pictures(path)
        if not files:
            raise DataError(f"{path} holds no {known}; .npy and .npz files are given by their own path")
        return Pictures(files=tuple(files))
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if is_picture(path):
        return Pictures(files=(path,))
    if path.suffix.lower() in arrays.SUFFIXES:
        return open_array(path, shape, layout)
    raise DataError(f"{path} cannot be used as data: supported are {known}, folders of them, .npy and .npz")


def _class_name(root: Path, file: Path) -> str:
    return file.relative_to(root).parts[0]
