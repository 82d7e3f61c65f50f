"""Samples from any mix of picture folders, pictures, .npy and .npz files, in the model's input space.

Pictures and uint8 arrays are preprocessed (`Preprocess`). Floating-point arrays are taken as they are: they are the model's input
already, made by `distill` or by the user's own pipeline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genie_onnx.data.arrays import ArrayFile
from genie_onnx.data.files import PathLike, Pictures, Source, open_labelled_sources, open_sources, refuse
from genie_onnx.data.pictures import check_picture, read_picture
from genie_onnx.data.preprocess import Preprocess
from genie_onnx.errors import DataError
from genie_onnx.framing import Layout
from genie_onnx.preprocessing import UNKNOWN, Preprocessing


@dataclass(frozen=True, kw_only=True)
class Samples:
    """A choice of samples, read when asked for: `chosen[i]` are the indices taken of `sources[i]`, ascending."""

    sources: tuple[Source, ...]
    chosen: tuple[tuple[int, ...], ...]
    preprocess: Preprocess

    def __len__(self) -> int:
        return sum(map(len, self.chosen))

    @property
    def labels(self) -> Tensor:
        """Class indices, int64 [N], in reading order. Raises DataError for samples that were opened without."""
        parts = []
        for source, chosen in zip(self.sources, self.chosen, strict=True):
            if source.labels is None:
                raise DataError("these samples have no labels")
            parts.append(source.labels[list(chosen)])
        return torch.from_numpy(np.concatenate(parts))

    @property
    def names(self) -> list[str]:
        """What each sample is called, in reading order: its file, or file[index]."""
        return [
            str(source.files[index]) if isinstance(source, Pictures) else f"{source.path}[{index}]"
            for source, chosen in zip(self.sources, self.chosen, strict=True)
            for index in chosen
        ]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in the order of their indices; () where they are not known."""
        return next((source.classes for source in self.sources if source.classes), ())

    @property
    def pixels(self) -> bool:
        """Whether any of the sources holds pixels 0..255, which are preprocessed."""
        return any(isinstance(source, Pictures) or source.pixels for source in self.sources)

    @property
    def all_pixels(self) -> bool:
        """Whether all of them do."""
        return all(isinstance(source, Pictures) or source.pixels for source in self.sources)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield float32 [n, C, H, W], n = `size` but for the last, in reading order: sources as given, ascending within each.

        Holds one batch in memory. Raises DataError that names every damaged file of the batch it was met in.
        """
        batch: list[np.ndarray] = []
        problems: list[str] = []
        for count, sample in enumerate(self._read(), start=1):
            if isinstance(sample, DataError):
                problems += sample.problems
            else:
                batch.append(sample)
            if count % size == 0 or count == len(self):
                refuse(problems)
                yield torch.from_numpy(np.stack(batch))
                batch = []

    def targets(self, size: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield what is known of each batch of `size`, arrays [n, ...]: `names`, `labels`, what an .npz has beside its images.

        Of several sources, what all of them have. Holds one batch in memory. Raises DataError for a damaged file.
        """
        rows = self._known()
        common = set.intersection(*({"names"} | _columns(source) for source in self.sources))
        while batch := list(islice(rows, size)):
            yield {key: np.stack([np.asarray(row[key]) for row in batch]) for key in sorted(common)}

    def tensor(self) -> Tensor:
        """Return all samples, float32 [N, C, H, W], in reading order. Raises DataError that names the damaged files."""
        out = np.empty((len(self), *self.preprocess.shape), np.float32)
        problems: list[str] = []
        for position, sample in enumerate(self._read()):
            if isinstance(sample, DataError):
                problems += sample.problems
            else:
                out[position] = sample
        refuse(problems)
        return torch.from_numpy(out)

    def _read(self) -> Iterator[np.ndarray | DataError]:
        """Yield every sample float32 [C, H, W]; in place of a damaged picture, what is wrong with it."""
        for source, chosen in zip(self.sources, self.chosen, strict=True):
            if isinstance(source, Pictures):
                for index in chosen:
                    yield self._picture(source.files[index])
            else:
                for row in source.rows(chosen):
                    yield self.preprocess.tensor(row) if source.pixels else row

    def _picture(self, file: Path) -> np.ndarray | DataError:
        try:
            picture = read_picture(file)
        except DataError as error:
            return error
        try:
            return self.preprocess.tensor(picture)
        except DataError as error:
            return DataError([f"{file}: {problem}" for problem in error.problems])

    def _known(self) -> Iterator[dict[str, Any]]:
        """Yield what is known of every sample."""
        names = iter(self.names)
        for source, chosen in zip(self.sources, self.chosen, strict=True):
            if isinstance(source, ArrayFile):
                yield from ({**row, "names": next(names)} for row in source.rows_beside(chosen))
            else:
                for index in chosen:
                    yield {"names": next(names), **({} if source.labels is None else {"labels": source.labels[index]})}


def _columns(source: Source) -> set[str]:
    if isinstance(source, ArrayFile):
        return set(source.beside)
    return set() if source.labels is None else {"labels"}


def open_images(
    paths: Sequence[PathLike],
    shape: tuple[int, int, int],
    preprocessing: Preprocessing = UNKNOWN,
    *,
    layout: Layout = "nchw",
    limit: int | None = None,
) -> Samples:
    """Open what `load_images` loads, to read it batch by batch, or to know early whether it can be used."""
    preprocess = Preprocess.of(shape, preprocessing)
    sources = open_sources(paths, shape, layout)
    return _choose(sources, _evenly(sum(map(len, sources)), limit), preprocess)


def load_images(
    paths: Sequence[PathLike],
    shape: tuple[int, int, int],
    preprocessing: Preprocessing = UNKNOWN,
    *,
    layout: Layout = "nchw",
    limit: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return calibration images, float32 [N, C, H, W] in the model's input space.

    Args:
        paths: picture folders (searched at any depth), pictures, .npy and .npz files, mixed as one likes.
        shape: C, H, W of one sample as the model takes it.
        preprocessing: what is done to pictures and uint8 arrays (where mean and std are not known: pixels are 0..1).
            Floating-point arrays are not touched by it.
        layout: of the model's input, for arrays that could be in either; what is returned is [N, C, H, W] whatever it is.
        limit: at most so many samples; memory is that of the samples returned.
        generator: draws which samples, and in which order, so that any first part of them is a random choice too; without one
            they are taken evenly over the whole, in the order of the paths.

    Raises:
        DataError: with every path that cannot be used.
    """
    if generator is None:
        return open_images(paths, shape, preprocessing, layout=layout, limit=limit).tensor()
    preprocess = Preprocess.of(shape, preprocessing)
    sources = open_sources(paths, shape, layout)
    drawn = torch.randperm(sum(map(len, sources)), generator=generator)[:limit]
    ascending = drawn.argsort()  # sample i in reading order was drawn as number ascending[i]
    read = _choose(sources, drawn[ascending].tolist(), preprocess).tensor()
    return read[ascending.argsort()]


def open_labelled(
    paths: Sequence[PathLike],
    shape: tuple[int, int, int],
    preprocessing: Preprocessing = UNKNOWN,
    *,
    labels: PathLike | None = None,
    classes: PathLike | None = None,
    layout: Layout = "nchw",
    limit: int | None = None,
) -> Samples:
    """Open samples with class labels: trees of class folders (ROOT/CLASS/**/picture), and .npz files with integers `labels`.

    With a file of `labels` (CSV of path and label, or a text of the same; data.labels) the samples are the pictures in it, which
    lie in one of the folders `paths` or beside that file. A class index is a folder's name, or the label, where all of them are
    integers, else its place in the file `classes`, else in the sorted order. `limit` takes samples evenly over the whole. The
    other arguments are those of `load_images`. Raises DataError with every path and line that cannot be used.
    """
    preprocess = Preprocess.of(shape, preprocessing)
    sources = open_labelled_sources(paths, shape, labels, classes, layout)
    return _choose(sources, _evenly(sum(map(len, sources)), limit), preprocess)


def load_labelled(
    paths: Sequence[PathLike],
    shape: tuple[int, int, int],
    preprocessing: Preprocessing = UNKNOWN,
    *,
    layout: Layout = "nchw",
    limit: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return images float32 [N, C, H, W] and class labels int64 [N]: `open_labelled`, read at once."""
    samples = open_labelled(paths, shape, preprocessing, layout=layout, limit=limit)
    return samples.tensor(), samples.labels


def _evenly(total: int, limit: int | None) -> list[int]:
    count = total if limit is None else min(limit, total)
    return [index * total // count for index in range(count)]


def _choose(sources: Sequence[Source], indices: Sequence[int], preprocess: Preprocess) -> Samples:
    """Return the samples at `indices` (ascending, counted over all sources). Raises DataError for what is no picture."""
    chosen: list[tuple[int, ...]] = []
    problems: list[str] = []
    channels = preprocess.shape[0]
    start = 0
    for source in sources:
        stop = start + len(source)
        chosen.append(tuple(index - start for index in indices if start <= index < stop))
        start = stop
        if not isinstance(source, Pictures):
            continue
        if channels not in (1, 3):
            problems.append(f"{source.files[0]}: the model takes {channels} channels, pictures have 1 or 3; give .npy or .npz")
            continue
        for index in chosen[-1]:
            try:
                check_picture(source.files[index])
            except DataError as error:
                problems += error.problems
    refuse(problems)
    return Samples(sources=tuple(sources), chosen=tuple(chosen), preprocess=preprocess)
