"""Help that a person can read: options in groups, lines that fit, and what to type where a command line is not understood."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner, Result
from genie_onnx_cli.groups import ABLATIONS, MAIN, RUNNING, Command, Option
from genie_onnx_cli.main import main

import genie_onnx

COMMANDS = sorted(main.commands)


def call(*words: str, columns: int = 80) -> Result:
    """What the command line says on a terminal of this width."""
    return CliRunner().invoke(main, words, env={"COLUMNS": str(columns)}, terminal_width=columns)


def headings(text: str) -> dict[str, list[str]]:
    """The headings of a help text, each with the long options below it."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if re.fullmatch(r"\S.*:", line):
            found[line[:-1]] = []
        elif found and (option := re.match(r"  (?:-\w, )?(--[\w-]+)", line)):
            found[list(found)[-1]].append(option[1])
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_one_named_group(name: str) -> None:
    command = main.commands[name]
    assert isinstance(command, Command)
    shown = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    assert all(isinstance(option, Option) and option.heading for option in shown)
    listed = [option for options in headings(call(name, "--help").stdout).values() for option in options]
    expected = [next(word for word in option.opts if word.startswith("--")) for option in shown]
    assert sorted(listed) == sorted([*expected, "--help"])


@pytest.mark.parametrize("columns", [60, 80, 110])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits(name: str, columns: int) -> None:
    text = call(*name.split(), "--help", columns=columns).stdout
    # examples are there to be copied, and are not broken
    assert [line for line in text.splitlines() if len(line) > (80 if line.startswith("  genie-onnx ") else columns)] == []


def test_what_matters_stands_first_and_ablations_last() -> None:
    groups = headings(call("quantize", "--help").stdout)
    assert next(iter(groups)) == MAIN
    assert groups[MAIN] == ["--wbits", "--abits", "--data", "--preset", "--target"]
    assert list(groups)[-1] == ABLATIONS
    assert {"--sweeps", "--moments", "--drop", "--points"} <= set(groups[ABLATIONS])
    assert groups[RUNNING][-1] == "--help"


@pytest.mark.parametrize("columns", range(60, 201, 7))
def test_targets_break_no_word(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from genie_onnx_cli.show import console

    monkeypatch.setattr(console, "_width", columns)
    text = call("targets", columns=columns).stdout
    assert max(map(len, text.splitlines())) <= columns
    words = set(text.split())
    for target in genie_onnx.TARGETS.values():
        assert {target.name, *(word for place in target.verified for word in place.replace(",", " ").split())} <= {
            word.rstrip(",") for word in words
        }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("model.onnx", "genie-onnx quantize model.onnx"),
        ("my/model.ONNX --wbits 3", "genie-onnx quantize my/model.ONNX --wbits 3"),
        ("model.onnx quantize --wbits 3", "genie-onnx quantize model.onnx --wbits 3"),
        ("model.onnx model.quant.onnx", "genie-onnx compare model.onnx model.quant.onnx"),
        ("quantise model.onnx", "did you mean quantize?"),
        ("inspct model.onnx", "did you mean inspect?"),
        ("frobnicate", "quantize, report, status"),
        ("--wbits 3 model.onnx", "--wbits stands behind the command that it is for: quantize, inspect"),
        ("quantize model.onnx --wbit 3", "--wbits"),
        ("quantize model.onnx --traget openvino", "--target"),
        ("--nonsense", "--nonsense"),
    ],
)
def test_one_line_says_what_was_meant(words: str, said: str) -> None:
    result = call(*words.split())
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_a_directory_may_be_a_run(tmp_path: object) -> None:
    assert f"genie-onnx status {tmp_path}" in call(str(tmp_path)).stderr


def test_no_words_show_the_help() -> None:
    result = call()
    assert "Commands:" in result.output
    assert set(COMMANDS) <= set(result.output.split())
