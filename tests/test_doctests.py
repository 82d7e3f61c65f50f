"""The examples in the docstrings of public functions run, in a folder with the shipped model and a finished run of it."""

from __future__ import annotations

import doctest
import inspect
import shutil
from pathlib import Path

import pytest

import genie_onnx

EXAMPLES = Path(__file__).parents[1] / "examples"
# In this order: the first one leaves digits.quant.onnx and its run directory to the others.
NAMES = [
    "quantize",
    "plan",
    "distill",
    "inspect",
    "status",
    "export",
    "verify",
    "evaluate",
    "compare",
    "html_report",
    "cancellable",
    "doctor",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a user's."""
    made = tmp_path_factory.mktemp("user")
    for name in ("digits.onnx", "digits_test.npz"):
        shutil.copy(EXAMPLES / name, made)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_the_example_runs(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    function = getattr(genie_onnx, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(
        inspect.unwrap(function), name, globs=dict(inspect.unwrap(function).__globals__)
    )
    assert example.examples
    said: list[str] = []
    assert doctest.DocTestRunner().run(example, out=said.append).failed == 0, "".join(said)


def test_every_public_function_that_works_on_files_has_one() -> None:
    functions = {name for name in genie_onnx.__all__ if inspect.isfunction(getattr(genie_onnx, name))}
    small = {
        "advice",
        "default_preset",
        "estimate",
        "first_to_fail",
        "from_json",
        "join_team",
        "node_operators",
        "rounding_rate",
        "to_json",
        "unfit_for_portable",
    }
    assert functions - small - {"versions"} == set(NAMES)
