"""Arrays of samples in .npy and .npz files: described from their headers, then read row by row.

An .npz can be far larger than memory and cannot be mapped, so its rows are streamed and only the chosen ones kept.
Nothing is ever unpickled: an array of objects is refused by its header.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

import numpy as np

from genie_onnx.errors import DataError
from genie_onnx.framing import Layout

SUFFIXES = (".npy", ".npz")
IMAGE_KEYS = ("images", "x", "arr_0")  # looked for in this order; else the first array of four dimensions
LABEL_KEY = "labels"
SPACE_KEY = "space"  # "model": the images are in the model's input space already (what `distill` writes)

LAYOUT_KEY = "layout"  # "nchw": of the images, whatever the model's (what a run and `distill` write)

Rows = Literal["NCHW", "NHWC", "NHW"]

_DAMAGED = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError)


@dataclass(frozen=True, kw_only=True)
class ArrayFile:
    """N samples in a file: `pixels`, 0..255, that are preprocessed like pictures, or else floats that are the model's input."""

    path: Path
    key: str | None  # of an .npz
    shape: tuple[int, ...]
    dtype: np.dtype
    layout: Rows
    labels: np.ndarray | None  # class indices, int64 [N]
    beside: tuple[str, ...] = ()  # other arrays [N, ...] of an .npz: masks, boxes, texts, `labels` too
    classes: tuple[str, ...] = ()  # their names, in the order of the indices; (): not known

    @property
    def pixels(self) -> bool:
        return self.dtype == np.uint8

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the samples at `indices` (ascending), uint8 [h, w, c] if `pixels`, else float32 [C, H, W].

        Raises DataError for a damaged file, and for a sample with NaN or Inf.
        """
        try:
            for index, row in zip(indices, self._raw_rows(self.key, indices), strict=True):
                if self.pixels:
                    yield _channels_last(row, self.layout)
                    continue
                sample = np.ascontiguousarray(_channels_first(row, self.layout), dtype=np.float32)
                if not np.isfinite(sample).all():
                    raise DataError(f"{self.path}: sample {index} has NaN or infinite values")
                yield sample
        except _DAMAGED as error:
            raise DataError(f"{self.path} cannot be read: {_one_line(error)}") from error

    def rows_beside(self, indices: Sequence[int]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the entries of the arrays `beside` at `indices` (ascending), by name. Raises DataError for a damaged file."""
        try:
            for _, *rows in zip(indices, *(self._raw_rows(key, indices) for key in self.beside), strict=True):
                yield dict(zip(self.beside, rows, strict=True))
        except _DAMAGED as error:
            raise DataError(f"{self.path} cannot be read: {_one_line(error)}") from error

    def _raw_rows(self, key: str | None, indices: Sequence[int]) -> Iterator[np.ndarray]:
        if key is None:
            mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
            yield from (np.array(mapped[index]) for index in indices)
            return
        with zipfile.ZipFile(self.path) as archive, archive.open(key + ".npy") as member:
            shape, fortran, dtype = _header(member)
            if fortran:  # rows are not contiguous: the whole array has to be there
                flat = np.frombuffer(_read(member, int(np.prod(shape)) * dtype.itemsize), dtype)
                yield from flat.reshape(shape, order="F")[list(indices)]
                return
            size = int(np.prod(shape[1:])) * dtype.itemsize
            at = 0
            for index in indices:
                for _ in range(index - at):
                    _read(member, size)
                yield np.frombuffer(_read(member, size), dtype).reshape(shape[1:])
                at = index + 1


def open_array(path: Path, shape: tuple[int, int, int], model: Layout = "nchw") -> ArrayFile:
    """Describe the samples of an .npy or .npz file for a model that takes `shape` (C, H, W), from headers and labels alone.

    `model` is the layout of its input, which decides where an array could be in either.

    Accepted are uint8 [N, h, w, c], [N, c, h, w] and, for one channel, [N, h, w], of any size, with as many channels as the
    model or 1 for 3 or 3 for 1; and floating-point [N, C, H, W], [N, H, W, C] and, for one channel, [N, H, W], of exactly the
    model's size. Raises DataError.
    """
    try:
        if path.suffix.lower() == ".npy":
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            return _describe(path, None, mapped.shape, mapped.dtype, shape, None, None, model)
        with zipfile.ZipFile(path) as archive:
            headers = {}
            for name in archive.namelist():
                with archive.open(name) as member:
                    headers[name.removesuffix(".npy")] = _header(member)
            key = next((key for key in IMAGE_KEYS if key in headers), None)
            key = key or next((key for key, header in headers.items() if len(header[0]) == 4), None)
            if key is None:
                held = ", ".join(f"{key} {list(header[0])}" for key, header in headers.items()) or "nothing"
                raise DataError(
                    f"{path} holds no images (looked for {', '.join(IMAGE_KEYS)}, or any array [N, ., ., .]); it holds {held}"
                )
            labels = _small(archive, LABEL_KEY, headers, headers[key][0][:1])
            space, own = (_small(archive, key, headers, ()) for key in (SPACE_KEY, LAYOUT_KEY))
            model = "nchw" if own is not None and str(own) == "nchw" else model
        count = headers[key][0][:1]
        others = {name: header for name, header in headers.items() if name != key}
        beside = tuple(name for name, (found, _, dtype) in others.items() if found[:1] == count and not dtype.hasobject)
        return replace(_describe(path, key, headers[key][0], headers[key][2], shape, labels, space, model), beside=beside)
    except _DAMAGED as error:
        raise DataError(f"{path} is not a readable {path.suffix} file: {_one_line(error)}") from error


def _describe(
    path: Path,
    key: str | None,
    found: tuple[int, ...],
    dtype: np.dtype,
    shape: tuple[int, int, int],
    labels: np.ndarray | None,
    space: np.ndarray | None,
    model: Layout,
) -> ArrayFile:
    problems: list[str] = []
    where = f"{path}, array {key}" if key else str(path)
    pixels = dtype == np.uint8
    if not pixels and dtype.kind != "f":
        problems.append(f"{where} has dtype {dtype}: give uint8 pixels (0..255), or floating point as the model takes it")
    layout = find_layout(found, shape, pixels, model)
    if layout is None or not found[0]:
        channels, height, width = shape
        sizes = shape if model == "nchw" else (height, width, channels)
        wanted = f"[N, {', '.join(map(str, sizes))}], as the model takes it"
        if pixels:
            wanted = f"[N, height, width, {channels}] or [N, {channels}, height, width], 0..255"
        problems.append(f"{where} has shape {list(found)}, but expected is {wanted}")
    if space is not None and (str(space) != "model" or pixels):
        problems.append(f"{where}: space = {space} with dtype {dtype} is not known; floating point with space = model is")
    if problems or layout is None:
        raise DataError(problems)
    classes = (
        labels.astype(np.int64) if labels is not None and labels.dtype.kind in "iu" else None
    )  # else of another task: text, boxes
    return ArrayFile(path=path, key=key, shape=found, dtype=dtype, layout=layout, labels=classes)


def find_layout(found: tuple[int, ...], shape: tuple[int, int, int], pixels: bool, model: Layout = "nchw") -> Rows | None:
    """Return how an array of shape `found` is laid out for a model that takes `shape` (C, H, W); None if it cannot serve.

    A layout whose size is the model's wins over one that needs scaling (pixels only), and that over one that needs other
    channels; on equal terms pixels are channels-last, floats laid out as `model` is.
    """
    channels, height, width = shape
    sizes: dict[Rows, tuple[int, int, int]] = {}  # channels, height, width if read in that layout
    if len(found) == 4:
        sizes = {"NCHW": (found[1], found[2], found[3]), "NHWC": (found[3], found[1], found[2])}
        if pixels or model == "nhwc":
            sizes = dict(reversed(sizes.items()))
    elif len(found) == 3 and (channels == 1 or (pixels and channels == 3)):
        sizes = {"NHW": (1, found[1], found[2])}
    for layout, size in sizes.items():
        if size == (channels, height, width):
            return layout
    if not pixels:
        return None
    for accepted in ((channels,), (1, 3) if channels in (1, 3) else ()):
        for layout, size in sizes.items():
            if size[0] in accepted and min(size) > 0:
                return layout
    return None


def _channels_last(row: np.ndarray, layout: Rows) -> np.ndarray:
    if layout == "NCHW":
        return row.transpose(1, 2, 0)
    return row if layout == "NHWC" else row[:, :, None]


def _channels_first(row: np.ndarray, layout: Rows) -> np.ndarray:
    if layout == "NHWC":
        return row.transpose(2, 0, 1)
    return row if layout == "NCHW" else row[None]


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, Fortran order and dtype from the start of an .npy stream."""
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"array format {version} holds no plain numbers")
    shape, fortran, dtype = read(member)
    return shape, fortran, dtype


def _small(
    archive: zipfile.ZipFile, key: str, headers: dict[str, tuple[tuple[int, ...], bool, np.dtype]], shape: tuple[int, ...]
) -> np.ndarray | None:
    """Return the array `key` if it is there, of `shape` and of plain values."""
    if key not in headers or headers[key][0] != shape or headers[key][2].hasobject:
        return None
    with archive.open(key + ".npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _read(member: IO[bytes], size: int) -> bytes:
    data = member.read(size)
    if len(data) < size:
        raise EOFError("it ends in the middle of an array")
    return data


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
