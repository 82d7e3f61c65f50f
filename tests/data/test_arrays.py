"""Arrays in files: layouts are told apart, rows are streamed, nothing is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from genie_onnx.data.arrays import find_layout, open_array
from genie_onnx.errors import DataError


@pytest.mark.parametrize(
    ("found", "shape", "pixels", "layout"),
    [
        ((9, 32, 24, 3), (3, 32, 24), True, "NHWC"),
        ((9, 3, 32, 24), (3, 32, 24), True, "NCHW"),
        ((9, 3, 32, 24), (3, 32, 24), False, "NCHW"),
        ((9, 32, 24, 3), (3, 32, 24), False, "NHWC"),
        ((9, 3, 3, 3), (3, 3, 3), True, "NHWC"),  # cannot be told apart: what is usual
        ((9, 3, 3, 3), (3, 3, 3), False, "NCHW"),
        ((9, 3, 5, 3), (3, 5, 3), True, "NCHW"),  # the size decides
        ((9, 50, 40, 3), (3, 32, 24), True, "NHWC"),  # to be scaled
        ((9, 50, 40, 1), (3, 32, 24), True, "NHWC"),  # to be scaled and repeated
        ((9, 50, 40), (1, 32, 24), True, "NHW"),
        ((9, 32, 24), (1, 32, 24), False, "NHW"),
        ((9, 3, 50, 40), (3, 32, 24), False, None),  # floats are not scaled
        ((9, 1, 32, 24), (3, 32, 24), False, None),
        ((9, 32, 24, 4), (3, 32, 24), True, None),
        ((9, 32, 24), (3, 32, 24), False, None),
        ((9, 100), (3, 32, 24), True, None),
    ],
)
def test_layout(found: tuple[int, ...], shape: tuple[int, int, int], pixels: bool, layout: str | None) -> None:
    assert find_layout(found, shape, pixels) == layout


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("fortran", [False, True], ids=["c", "fortran"])
def test_chosen_rows_are_those_of_numpy(suffix: str, fortran: bool, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((7, 2, 3, 4))
    values = np.asfortranarray(values) if fortran else values
    path = tmp_path / f"x{suffix}"
    np.save(path, values) if suffix == ".npy" else np.savez_compressed(path, labels=np.arange(7), images=values)
    rows = list(open_array(path, (2, 3, 4)).rows([0, 3, 6]))
    np.testing.assert_array_equal(rows, values[[0, 3, 6]].astype(np.float32))


def test_pixels_come_channels_last_and_floats_channels_first(tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", np.zeros((2, 3, 8, 6), np.uint8))
    np.save(tmp_path / "floats.npy", np.zeros((2, 8, 6, 3), np.float16))
    assert next(open_array(tmp_path / "pixels.npy", (3, 8, 6)).rows([0])).shape == (8, 6, 3)
    row = next(open_array(tmp_path / "floats.npy", (3, 8, 6)).rows([0]))
    assert (row.shape, row.dtype) == ((3, 8, 6), np.float32)


@pytest.mark.parametrize(
    ("arrays", "key"),
    [
        ({"z": np.zeros((1, 1, 2, 2)), "images": np.ones((1, 1, 2, 2))}, "images"),
        ({"z": np.zeros((1, 1, 2, 2)), "x": np.ones((1, 1, 2, 2))}, "x"),
        ({"y": np.zeros(3), "pictures": np.ones((1, 1, 2, 2))}, "pictures"),
    ],
    ids=["images", "x", "first of four dimensions"],
)
def test_which_array_of_an_npz(arrays: dict, key: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    assert open_array(tmp_path / "x.npz", (1, 2, 2)).key == key


def test_labels_are_taken_if_they_are_classes(tmp_path: Path) -> None:
    images = np.zeros((2, 1, 2, 2))
    np.savez(tmp_path / "classes.npz", images=images, labels=np.array([3, 1], np.uint8))
    np.savez(tmp_path / "plates.npz", images=images, labels=np.array(["AB", "CD"]))
    labels = open_array(tmp_path / "classes.npz", (1, 2, 2)).labels
    assert labels is not None
    assert (labels.dtype, labels.tolist()) == (np.int64, [3, 1])
    assert open_array(tmp_path / "plates.npz", (1, 2, 2)).labels is None


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "touched",))

    evil = np.array([Payload()], dtype=object)
    np.save(tmp_path / "x.npy", evil, allow_pickle=True)
    np.savez(tmp_path / "images.npz", images=evil)
    np.savez(tmp_path / "labels.npz", images=np.zeros((1, 1, 2, 2)), labels=evil, space=evil)
    for name in ["x.npy", "images.npz"]:
        with pytest.raises(DataError):
            open_array(tmp_path / name, (1, 2, 2))
    assert open_array(tmp_path / "labels.npz", (1, 2, 2)).labels is None
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"images": np.zeros((2, 1, 2, 2), np.int64)}, "has dtype int64: give uint8 pixels"),
        ({"images": np.zeros((2, 3, 9, 9))}, r"has shape \[2, 3, 9, 9\], but expected is \[N, 1, 2, 2\]"),
        ({"images": np.zeros((0, 1, 2, 2))}, "has shape"),
        ({"images": np.zeros((2, 1, 2, 2)), "space": np.array("moon")}, "space = moon"),
        ({"images": np.zeros((2, 1, 2, 2), np.uint8), "space": np.array("model")}, "space = model with dtype uint8"),
        ({"labels": np.zeros(2)}, r"holds no images .* it holds labels \[2\]"),
    ],
)
def test_arrays_that_cannot_serve(arrays: dict, text: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=text):
        open_array(tmp_path / "x.npz", (1, 2, 2))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").touch()
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("readme.txt", "no array either")
    for name in ["text.npz", "text.npy", "empty.npy", "other.npz"]:
        with pytest.raises(DataError, match=f"{name} is not a readable"):
            open_array(tmp_path / name, (1, 2, 2))


def test_an_array_that_ends_early_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npy"
    np.save(whole, np.zeros((4, 1, 2, 2), np.float32))
    with zipfile.ZipFile(tmp_path / "cut.npz", "w") as archive:
        archive.writestr("images.npy", whole.read_bytes()[:-8])
    opened = open_array(tmp_path / "cut.npz", (1, 2, 2))
    assert len(list(opened.rows([0, 2]))) == 2
    with pytest.raises(DataError, match=r"cut\.npz cannot be read: it ends in the middle"):
        list(opened.rows([3]))


def test_nan_is_named_with_its_sample(tmp_path: Path) -> None:
    values = np.zeros((4, 1, 2, 2))
    values[2, 0, 1, 1] = np.nan
    np.save(tmp_path / "x.npy", values)
    opened = open_array(tmp_path / "x.npy", (1, 2, 2))
    assert len(list(opened.rows([0, 1, 3]))) == 3
    with pytest.raises(DataError, match=r"x\.npy: sample 2 has NaN"):
        list(opened.rows([1, 2]))
