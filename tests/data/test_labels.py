"""Labels and class names from text files, and the pictures they name."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from genie_onnx.data import open_labelled
from genie_onnx.data.labels import read_classes, read_labels
from genie_onnx.errors import DataError

SHAPE = (1, 2, 2)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A folder of pictures a.png to d.png."""
    (tmp_path / "flat").mkdir()
    for name in ("a.png", "b.png", "c.png", "d e.png"):
        Image.new("L", (2, 2)).save(tmp_path / "flat" / name)
    return tmp_path / "flat"


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "a.png,3\nd e.png,1\n",
        "path,label\na.png,3\nd e.png,1\n",
        "id,label,extra,filename\n7,3,x,a.png\n8,1,y,d e.png\n",
        '\ufeffPath;Class\r\na.png;3\r\n\r\n"d e.png";1\r\n',
        "a.png\t3\nd e.png\t1",
        "a.png 3\nd e.png 1\n",
    ],
    ids=["csv", "header", "columns", "spreadsheet", "tabs", "spaces"],
)
def test_every_way_to_write_path_and_label(text: str, flat: Path) -> None:
    labels = written(flat.parent / "labels.csv", text)
    samples = open_labelled([flat], SHAPE, labels=labels)
    assert [Path(name).name for name in samples.names] == ["a.png", "d e.png"]
    assert samples.labels.tolist() == [3, 1]
    assert samples.classes == ()


def test_paths_begin_at_the_data_or_at_the_file(flat: Path) -> None:
    labels = written(flat.parent / "labels.csv", "flat/b.png,0\n")
    assert open_labelled([], SHAPE, labels=labels).names == [str(flat / "b.png")]
    assert open_labelled([flat.parent], SHAPE, labels=labels).names == [str(flat / "b.png")]


def test_names_of_classes_are_sorted_unless_an_order_is_given(flat: Path) -> None:
    labels = written(flat.parent / "labels.csv", "a.png,dog\nb.png,ant\nc.png,cat\n")
    found = open_labelled([flat], SHAPE, labels=labels)
    assert (found.labels.tolist(), found.classes) == ([2, 0, 1], ("ant", "cat", "dog"))
    classes = written(flat.parent / "classes.txt", "dog\ncat\nemu\nant\n")
    found = open_labelled([flat], SHAPE, labels=labels, classes=classes)
    assert (found.labels.tolist(), found.classes) == ([0, 3, 1], ("dog", "cat", "emu", "ant"))


def test_long_numbers_are_names(flat: Path) -> None:
    labels = written(flat.parent / "labels.csv", "a.png,99999999999999999999\nb.png,20231122101500123456\n")
    assert open_labelled([flat], SHAPE, labels=labels).labels.tolist() == [1, 0]


def test_class_folders_take_an_order_as_well(tmp_path: Path) -> None:
    for name in ("n02", "n01"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        Image.new("L", (2, 2)).save(tmp_path / "tree" / name / "x.png")
    classes = written(tmp_path / "index.json", '{"0": ["n02", "tench"], "1": ["n01", "shark"]}')
    found = open_labelled([tmp_path / "tree"], SHAPE, classes=classes)
    assert (found.labels.tolist(), found.classes) == ([1, 0], ("tench", "shark"))
    with pytest.raises(DataError, match="class folder 'n01' is not in"):
        open_labelled([tmp_path / "tree"], SHAPE, classes=written(tmp_path / "one.txt", "n02\n"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.txt", "cat\ndog\n\n"),
        ("c.json", '["cat", "dog"]'),
        ("c.json", '{"dog": 1, "cat": 0}'),
        ("c.json", '{"1": "dog", "0": "cat"}'),
        ("c.json", '{"0": ["n1", "cat"], "1": ["n2", "dog"]}'),
    ],
)
def test_every_way_to_list_classes(name: str, text: str, tmp_path: Path) -> None:
    found = read_classes(written(tmp_path / name, text))
    assert found.names == ("cat", "dog")
    assert (found.indices["cat"], found.indices["dog"]) == (0, 1)


def test_wordnet_lines_have_three_names_and_a_name_of_two_classes_none(tmp_path: Path) -> None:
    found = read_classes(
        written(tmp_path / "synset_words.txt", "n02012849 crane\nn03126707 crane\nn01440764 tench, Tinca tinca\n")
    )
    assert (found.indices["n02012849"], found.indices["n03126707"], found.indices["tench, Tinca tinca"]) == (0, 1, 2)
    assert "crane" not in found.indices


def test_all_lines_that_cannot_be_used_are_named(flat: Path) -> None:
    labels = written(flat.parent / "l.csv", "a.png,1\nz.png,1\nb.png\nc.txt,1\nc.png,cat\na.png,2\n")
    with pytest.raises(DataError) as caught:
        open_labelled([flat], SHAPE, labels=labels)
    said = "\n".join(caught.value.problems)
    for line, what in (
        (2, "there is no"),
        (3, "not PATH,LABEL"),
        (4, "name of a picture"),
        (5, "'cat'"),
        (6, "another label before"),
    ):
        assert any(f"line {line}: " in problem and what in problem for problem in caught.value.problems), (line, said)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.json", "{", "does not list classes"),
        ("c.json", '{"0": "cat", "2": "dog"}', "none with index 1"),
        ("c.json", '"cat"', "neither a list nor an object"),
        ("c.json", '["cat", 1]', "not every class has a name"),
        ("c.txt", " \n", "lists no classes"),
    ],
)
def test_bad_lists_of_classes(name: str, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_classes(written(tmp_path / name, text))


def test_bad_files_of_labels(tmp_path: Path, flat: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    for file, said in ((tmp_path / "binary.csv", "as text"), (written(tmp_path / "empty.csv", "\n"), "holds no labels")):
        with pytest.raises(DataError, match=said):
            read_labels(file)
    endless = written(tmp_path / "quote.csv", 'a.png,1\n"b.png,1\n' + 20_000 * "c.png,1\n")
    with pytest.raises(DataError, match="a quote that does not end"):
        read_labels(endless)
    with pytest.raises(DataError, match="is no folder: with --labels"):
        open_labelled([flat / "a.png"], SHAPE, labels=tmp_path / "binary.csv")
