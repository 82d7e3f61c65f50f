"""Every command in README and docs is run, in order, in a folder that holds the files it names (doc_folder); of a `console` block
what it prints is compared too, but for the numbers.

The tutorial is run exactly as it stands. Elsewhere `quantize` and `distill` get options that make them short, and start anew:
what stands side by side on a page is to choose from. What cannot be run is in NOT_HERE. In the default suite README and tutorial
are run, and of all pages the commands are parsed, the programs compiled and the names of this package in them looked up.
"""

from __future__ import annotations

import ast
import doctest
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import doc_folder
import pytest
import torch
from click.testing import CliRunner
from documented import PAGES, ROOT, Entry, entries
from genie_onnx_cli.main import main

import genie_onnx

TUTORIAL = "docs/tutorial.md"
FIRST = {next(entry.text for entry in entries(ROOT / "README.md") if entry.text.startswith("genie-onnx"))}
QUICK = {
    "quantize": ["--samples", "8", "--distill-iters", "2", "--recon-iters", "2", "--accept-useless"],
    "distill": ["--samples", "8", "--distill-iters", "2"],
    "verify": ["--with", "onnxruntime", "--samples", "4"],
    "doctor": ["--no-smoke"],  # which test_doctor has
}
NOT_HERE = {
    "pip install": "changes the environment",
    "python -m pytest": "is this",
    "python -m sphinx": "is a step of .ci/run",
    "torchrun": "starts several processes: tests/machine/test_team.py",
    "--require-sqnr": "more than untrained models reach: tests/pipeline/test_useless.py",
    "--with openvino": "a runtime that is not required: tests/validate/runtimes",
    "/opt/rknn/bin/python": "a runtime that wants a Python of its own",
    "/opt/hls4ml": "tools that want a Python of their own: tests/test_fpga_page.py",
    "import hls4ml": "the same",
    "/opt/litert": "likewise: tests/test_microcontroller_page.py",
}
FOREIGN = {"resnet20_bn.onnx": "cifar/resnet20_bn.onnx", "version-RFB-320.onnx": "zoo/version-RFB-320.onnx"}  # in bench
Run = Callable[[Entry], str]


def reason(entry: Entry) -> str | None:
    """Why `entry` is not run; None where it is."""
    return next((why for part, why in NOT_HERE.items() if part in entry.text), None)


def todo(page: Path) -> list[Entry]:
    """What of `page` is run with the files that are made here."""
    elsewhere = FIRST if name(page) != TUTORIAL else set()
    others = (entry for entry in entries(page) if reason(entry) is None and entry.text not in elsewhere)
    return [entry for entry in others if not any(model in entry.text for model in FOREIGN)]


def name(page: Path) -> str:
    """`page` as links call it."""
    return page.relative_to(ROOT).as_posix()


def output_of(arguments: list[str]) -> Path:
    """The file that `quantize` writes."""
    return Path(arguments[arguments.index("-o") + 1]) if "-o" in arguments else Path(arguments[1]).with_suffix(".quant.onnx")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all files, to be copied."""
    folder = tmp_path_factory.mktemp("docs")
    doc_folder.make(folder)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one entry after another in a copy of the folder; return what each printed."""
    folder = Path(shutil.copytree(made, tmp_path / "work"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")  # names in tables are not broken
    monkeypatch.syspath_prepend(str(folder))
    model = doc_folder.classifier(folder / "checkpoint.pth")
    names: dict[str, Any] = {"genie_onnx": genie_onnx, "torch": torch, "model": model, "x": torch.zeros(1, *doc_folder.SHAPE)}
    names["keras_model"] = doc_folder.as_keras(model)

    def one(todo: Entry) -> str:
        if todo.file is not None:
            Path(todo.file).write_text(todo.text, encoding="utf-8")
        if todo.language == "python":
            exec(compile(todo.text, todo.place, "exec"), names)
        if todo.language in ("python", "toml"):
            return ""
        program, *arguments = shlex.split(todo.text)
        if program != "genie-onnx":
            command = [sys.executable if program == "python" else program, *arguments]
            return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
        refused = todo.printed is not None and "error: " in todo.printed
        if not (todo.place.startswith(TUTORIAL) and "examples/" in todo.text):  # the tutorial holds as it stands
            arguments += QUICK.get(arguments[0], [])
            if arguments[0] == "quantize" and not refused and "--dry-run" not in arguments:
                shutil.rmtree(output_of(arguments).with_suffix(".genie"), ignore_errors=True)
        result = CliRunner().invoke(main, arguments)
        assert (result.exit_code != 0) == refused, f"{todo.place}: {todo.text}\n{result.output}"
        return result.output

    return one


def check(entry: Entry, run: Run) -> None:
    """Run `entry`; what it prints is what the page says it does."""
    printed = run(entry)
    if entry.printed is not None:
        assert same_words(entry.printed, printed), f"{entry.place}: {entry.text}\n{printed}"


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[] if name(page) in ("README.md", TUTORIAL) else pytest.mark.slow) for page in PAGES if todo(page)],
    ids=name,
)
def test_commands_do_what_the_page_says(page: Path, run: Run) -> None:
    for entry in todo(page):
        check(entry, run)
    if name(page) == TUTORIAL:
        accuracy = genie_onnx.evaluate("examples/digits.quant.onnx", ["examples/digits_test.npz"])
        assert accuracy.top1 >= 0.965  # float 98.6 %; one standard error is 0.6


@pytest.mark.parametrize("model", FOREIGN)
def test_commands_on_models_that_are_not_here(model: str, bench: Path, run: Run) -> None:
    shutil.copy(bench / FOREIGN[model], model)
    for entry in (entry for page in PAGES for entry in entries(page) if model in entry.text):
        check(entry, run)


def test_the_first_command_of_the_readme_is_that_of_the_tutorial() -> None:
    assert {entry.text for entry in entries(ROOT / TUTORIAL)} >= FIRST


@pytest.mark.parametrize("page", [page for page in PAGES if entries(page)], ids=name)
def test_everything_is_such_as_could_be_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for entry in entries(page):
        if entry.file is not None:  # a metric is looked up when its option is parsed
            Path(entry.file).write_text(entry.text, encoding="utf-8")
        if entry.language == "toml":
            tomllib.loads(entry.text)
        elif entry.language == "python":
            for node in ast.walk(ast.parse(entry.text, entry.place)):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "genie_onnx":
                    assert node.attr in genie_onnx.__all__, entry.place
        elif entry.text.startswith("genie-onnx ") and "error: " not in (entry.printed or ""):
            _, command, *arguments = shlex.split(entry.text)
            if not command.startswith("-"):
                main.commands[command].make_context(command, arguments)


def test_what_is_not_run_is_there() -> None:
    texts = [entry.text for page in PAGES for entry in entries(page)]
    assert [part for part in NOT_HERE if not any(part in text for text in texts)] == []


def test_every_public_name_has_its_place() -> None:
    """Sphinx notices a name that is not there; this, one that is there and not documented."""
    reference = "".join(
        (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8") for page in ("configuration.md", "python.md")
    )
    documented = re.findall(r"(?:\.\. (?:auto)?(?:function|class|exception|data):: |{settings} genie_onnx\.)(\w+)", reference)
    assert set(documented) == set(genie_onnx.__all__)


def broken_links(page: Path) -> list[str]:
    """Return the links of a Markdown file to files beside it, or to headings in them, that lead nowhere."""
    broken = []
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([\w-]+))?\)", page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(f"{target}#{anchor}")
    return broken


def anchors(page: Path) -> list[str]:
    """Return what links to headings of a Markdown file are called, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("benchmarks/*.md"), *ROOT.glob("findings/*.md")], ids=name
)
def test_links_lead_somewhere(page: Path) -> None:
    """Those between pages of docs are checked when they are built."""
    assert broken_links(page) == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# What it does\n[a](page.md#what-it-does) [b](#what-it-does) [c](https://x.org)", encoding="utf-8")
    assert broken_links(page) == []
    page.write_text("# What it does\n[a](page.md#what-it-did) ![b](gone.png) [c](#there)", encoding="utf-8")
    assert broken_links(page) == ["page.md#what-it-did", "gone.png#", "#there"]


def same_words(said: str, printed: str) -> bool:
    """Whether a command printed what a page says, but for numbers, white space and what `...` stands for."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    words = re.sub(r"\s*^\.\.\.\n", "...", without_numbers(said), flags=re.MULTILINE)  # a line of its own stands for none as well
    return doctest.OutputChecker().check_output(words, without_numbers(printed), flags)


def without_numbers(text: str) -> str:
    """`text` with 0 for every number that is no part of a name, and one unit of time: a busy machine takes minutes."""
    text = re.sub(r"\b(second|minute|hour)s?\b", "seconds", text)
    return re.sub(r"(?<![\w./-])<?\d[\d.,]*(e[+-]\d+)?", "0", text)


def test_other_words_are_noticed() -> None:
    assert same_words("error: target ... 8 bits, not 4\n", "error: target  rknn 8 bits, not 2\n")
    assert not same_words("error: target rknn\n", "error: target qnn\n")
    assert same_words("a\n...\nb\n", "a\nb\n")
    assert same_words("a\n...\nb\n", "a\nx\ny\nb\n")
    assert not same_words("a\n...\nb\n", "a\nx\nc\n")
    assert not same_words("top-1 98.2 %\n", "top-5 98.2 %\n")
