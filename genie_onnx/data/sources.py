"""What the user's paths hold: picture folders, pictures, .npy and .npz files; class-folder trees where labels are asked for.

Everything that is wrong with any path is found here, from names and headers, before a picture is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genie_onnx.data import arrays, pictures
from genie_onnx.data.arrays import ArrayFile, open_array
from genie_onnx.data.pictures import find_pictures, is_picture
from genie_onnx.errors import DataError

PathLike = str | os.PathLike[str]
SHOWN = 5  # problems listed one by one; the rest is counted


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Picture files, one sample each."""

    files: tuple[Path, ...]
    labels: np.ndarray | None = None  # class indices, int64 [N]

    def __len__(self) -> int:
        return len(self.files)


Source = Pictures | ArrayFile


def open_sources(paths: Sequence[PathLike], shape: tuple[int, int, int]) -> list[Source]:
    """Return what each path holds for a model that takes `shape` (C, H, W). Raises DataError with all that cannot be used."""
    problems: list[str] = [] if paths else ["no data was given"]
    sources: list[Source] = []
    for path in map(Path, paths):
        try:
            sources.append(_open(path, shape))
        except DataError as error:
            problems += error.problems
    refuse(problems)
    return sources


def open_labelled_sources(paths: Sequence[PathLike], shape: tuple[int, int, int]) -> list[Source]:
    """Return what each path holds, all of it labelled: folders are trees ROOT/CLASS/**/picture, files have an array `labels`.

    A folder's class index is its name if all class names are integers, else its place in their sorted order (over all trees).
    Raises DataError with everything that cannot be used.
    """
    problems: list[str] = [] if paths else ["no data was given"]
    trees = {path: find_pictures(path) for path in map(Path, paths) if path.is_dir()}
    names = {_class_name(root, file) for root, files in trees.items() for file in files if file.parent != root}
    indices = {name: int(name) if all(map(str.isdecimal, names)) else index for index, name in enumerate(sorted(names))}
    sources: list[Source] = []
    for path in map(Path, paths):
        if path in trees:
            stray = next((file for file in trees[path] if file.parent == path), None)
            if stray or not trees[path]:
                found = f"{stray} lies in no class folder" if stray else "it holds no pictures"
                problems.append(f"{path} is no tree of class folders ({path}/CLASS/picture): {found}")
                continue
            labels = np.array([indices[_class_name(path, file)] for file in trees[path]], dtype=np.int64)
            sources.append(Pictures(files=tuple(trees[path]), labels=labels))
            continue
        try:
            source = _open(path, shape)
        except DataError as error:
            problems += error.problems
            continue
        if source.labels is None:
            problems.append(
                f"{path} has no labels: give a tree of class folders, or an .npz with integers `labels` [N] beside its images"
            )
        sources.append(source)
    refuse(problems)
    return sources


def refuse(problems: Sequence[str]) -> None:
    """Raise DataError with the first problems and the number of the others, if there are any."""
    if problems:
        rest = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError([*problems[:SHOWN], *rest])


def _open(path: Path, shape: tuple[int, int, int]) -> Source:
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
        return open_array(path, shape)
    raise DataError(f"{path} cannot be used as data: supported are {known}, folders of them, .npy and .npz")


def _class_name(root: Path, file: Path) -> str:
    return file.relative_to(root).parts[0]
