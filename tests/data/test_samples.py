"""Loading from any mix of sources: what comes in which order, and that every bad path is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genie_onnx.data import load_images, load_labelled, open_images, open_labelled
from genie_onnx.errors import DataError
from genie_onnx.preprocessing import Preprocessing


def picture(path: Path, grey: int, size: tuple[int, int] = (2, 2)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).save(path)


@pytest.fixture
def mixed(tmp_path: Path) -> list[Path]:
    """Eight samples of one grey each, 0.0 to 0.7: a folder of pictures, a picture, an .npz of pixels, an .npy of floats."""
    for index in range(3):
        picture(tmp_path / f"folder/{index}.png", round(25.5 * index), size=(4 + index, 4))
    picture(tmp_path / "single.png", round(25.5 * 3))
    pixels = np.round(25.5 * np.array([4, 5])).astype(np.uint8)
    np.savez(tmp_path / "pixels.npz", x=np.broadcast_to(pixels[:, None, None, None], (2, 5, 5, 1)))
    np.save(tmp_path / "floats.npy", np.broadcast_to(np.array([0.6, 0.7])[:, None, None, None], (2, 1, 2, 2)))
    return [tmp_path / name for name in ("folder", "single.png", "pixels.npz", "floats.npy")]


def greys(images: torch.Tensor) -> list[float]:
    assert images.shape[1:] == (1, 2, 2)
    assert images.dtype == torch.float32
    return [round(float(x), 2) for x in images.mean((1, 2, 3))]


def test_sources_are_mixed_in_order(mixed: list[Path]) -> None:
    assert greys(load_images(mixed, (1, 2, 2))) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], abs=0.011)


def test_floats_are_not_normalised_again(mixed: list[Path]) -> None:
    found = greys(load_images(mixed, (1, 2, 2), Preprocessing(mean=(0.5,), std=(0.1,))))
    assert found == pytest.approx([-5, -4, -3, -2, -1, 0, 0.6, 0.7], abs=0.03)


def test_a_limit_takes_samples_evenly(mixed: list[Path]) -> None:
    assert greys(load_images(mixed, (1, 2, 2), limit=4)) == pytest.approx([0, 0.2, 0.4, 0.6], abs=0.011)
    assert len(load_images(mixed, (1, 2, 2), limit=99)) == 8


def test_a_generator_draws_without_repetition_and_any_prefix_is_drawn_first(mixed: list[Path]) -> None:
    def drawn(seed: int, limit: int | None) -> list[float]:
        return greys(load_images(mixed, (1, 2, 2), limit=limit, generator=torch.Generator().manual_seed(seed)))

    everything = drawn(1, None)
    assert sorted(everything) == greys(load_images(mixed, (1, 2, 2)))
    assert everything != sorted(everything)
    assert drawn(1, 3) == everything[:3]
    assert drawn(2, None) != everything


@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_batches_are_the_tensor_in_pieces(mixed: list[Path], size: int) -> None:
    samples = open_images(mixed, (1, 2, 2), limit=7)
    batches = list(samples.batches(size))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert torch.equal(torch.cat(batches), samples.tensor())


def test_all_bad_paths_are_named(mixed: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    np.save(tmp_path / "wide.npy", np.zeros((2, 1, 2, 9)))
    paths = [*mixed, tmp_path / "empty", tmp_path / "missing", tmp_path / "notes.txt", tmp_path / "wide.npy"]
    with pytest.raises(DataError) as caught:
        load_images(paths, (1, 2, 2))
    found = caught.value.problems
    assert len(found) == 4
    for problem, text in zip(
        found, ["empty holds no pictures", "missing does not exist", "notes.txt cannot be", "has shape"], strict=True
    ):
        assert text in problem


def test_damaged_pictures_are_named_and_the_rest_is_counted(tmp_path: Path) -> None:
    for index in range(9):
        (tmp_path / f"{index}.png").write_text("no picture")
    picture(tmp_path / "9.png", 0)
    with pytest.raises(DataError) as caught:
        load_images([tmp_path], (1, 2, 2))
    assert len(caught.value.problems) == 6
    assert "0.png" in caught.value.problems[0]
    assert caught.value.problems[-1] == "... and 4 more"
    assert len(load_images([tmp_path / "9.png"], (1, 2, 2))) == 1


def test_a_picture_cut_short_is_met_when_it_is_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    for name in ["a.png", "b.png"]:
        Image.fromarray(noise).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:2000])
    samples = open_images([tmp_path], (1, 64, 64))
    with pytest.raises(DataError, match=r"b\.png"):
        samples.tensor()
    batches = samples.batches(1)
    next(batches)
    with pytest.raises(DataError, match=r"b\.png"):
        next(batches)


def test_pictures_are_refused_for_models_of_other_channels(mixed: list[Path]) -> None:
    with pytest.raises(DataError, match="the model takes 5 channels, pictures have 1 or 3"):
        load_images(mixed[:2], (5, 2, 2))


def test_no_data_is_refused() -> None:
    with pytest.raises(DataError, match="no data was given"):
        load_images([], (1, 2, 2))


@pytest.mark.parametrize(
    ("folders", "labels"),
    [(["10", "2", "0003"], [3, 10, 2]), (["dog", "cat", "10"], [0, 1, 2])],
    ids=["integers are indices", "names are sorted"],
)
def test_class_folders(folders: list[str], labels: list[int], tmp_path: Path) -> None:
    for index, name in enumerate(folders):
        picture(tmp_path / name / "deep" / f"{index}.png", 0)
    images, found = load_labelled([tmp_path], (1, 2, 2))
    assert (len(images), found.dtype) == (3, torch.int64)
    assert found.tolist() == labels


def test_classes_are_numbered_over_all_trees(tmp_path: Path) -> None:
    picture(tmp_path / "one/cat/x.png", 0)
    picture(tmp_path / "two/ant/x.png", 0)
    picture(tmp_path / "two/cat/x.png", 0)
    assert open_labelled([tmp_path / "one", tmp_path / "two"], (1, 2, 2)).labels.tolist() == [1, 0, 1]


def test_labels_stay_with_their_images(tmp_path: Path) -> None:
    values = np.arange(10, dtype=np.float32)
    np.savez(tmp_path / "x.npz", images=np.broadcast_to(values[:, None, None, None], (10, 1, 2, 2)), labels=np.arange(10))
    images, labels = load_labelled([tmp_path / "x.npz"], (1, 2, 2), limit=4)
    assert labels.tolist() == [0, 2, 5, 7]
    assert images[:, 0, 0, 0].tolist() == labels.tolist()


def test_what_has_no_labels_is_named(mixed: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        open_labelled([*mixed, tmp_path / "empty"], (1, 2, 2))
    found = caught.value.problems
    assert [
        text in problem for text, problem in zip(["lies in no class folder", *["has no labels"] * 3], found, strict=False)
    ] == [True] * 4
    assert "holds no pictures" in found[4]
    with pytest.raises(DataError, match="have no labels"):
        _ = open_images(mixed, (1, 2, 2)).labels


def test_the_bench_sets_are_read_as_their_judge_reads_them(bench: Path) -> None:
    preprocessing = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    images, labels = load_labelled([bench / "cifar/test1k.npz"], (3, 32, 32), preprocessing)
    with np.load(bench / "cifar/test1k.npz") as archive:
        pixels = archive["images"].astype(np.float32) / 255
        expected = ((pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(images.numpy(), expected)
        assert labels.tolist() == archive["labels"].tolist()
