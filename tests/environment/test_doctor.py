"""`doctor` finds what is wrong with a machine, and survives it."""

from __future__ import annotations

import json
import os
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from genie_onnx_cli.main import main

import genie_onnx
from genie_onnx import Finding
from genie_onnx.environment import machine, packages
from genie_onnx.environment.doctor import probes
from genie_onnx.environment.isolated import Probe, examine
from genie_onnx.validate import saturation


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of all others, for modules that are broken."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def probe(function: str, seconds: float = 60) -> Probe:
    return Probe(topic="test", function=function, todo="mend it", seconds=seconds)


def test_this_machine_is_fine() -> None:
    """All but the smoke test, which has its own; a few seconds, most of them for torch."""
    result = CliRunner().invoke(main, ["doctor", "--no-smoke", "--json", "-q"])
    found = [Finding(**row) for row in json.loads(result.stdout)]
    assert [f for f in found if f.level == "problem"] == []
    assert result.exit_code == 0
    assert {f.topic for f in found} >= {"python", "packages", "onnxruntime", "cpu", "memory", "disk", "gpu", "defaults", "verify"}
    assert any("torch " in f.text for f in found if f.topic == "packages")
    assert any(f"--preset {genie_onnx.default_preset('auto')}" in f.text for f in found)


def test_the_smoke_test_quantizes() -> None:
    (found,) = examine(probe("genie_onnx.environment.smoke:probe", 120))
    assert (found.level, found.topic) == ("ok", "smoke")
    assert "verified in onnxruntime" in found.text


def test_a_library_that_is_broken_is_a_finding(broken: Path) -> None:
    (broken / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    *_, last = examine(probe("genie_onnx.environment.torch_probe:probe"))
    assert (last.level, last.todo) == ("problem", "mend it")
    assert last.text == "ImportError: libcudart.so.13: cannot open shared object file"


def test_files_of_the_current_folder_are_no_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script there may be called like a module of Python's, and genie-onnx itself does not look there."""
    (tmp_path / "random.py").write_text("raise ImportError('a script of mine')")
    monkeypatch.chdir(tmp_path)
    assert {finding.level for finding in examine(probe("genie_onnx.environment.packages:probe"))} <= {"ok", "note"}


def test_the_onnxruntime_that_is_installed_is_the_one_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one beside it would be a mixture of two."""
    gpu, requires = SimpleNamespace(name="onnxruntime-gpu"), ["onnxruntime-gpu<2,>=1.22", "onnxruntime<2,>=1.22"]
    monkeypatch.setattr(metadata, "distributions", lambda: [gpu])
    monkeypatch.setattr(metadata, "requires", lambda name: requires)
    assert [row.todo for row in probes() if row.topic == "onnxruntime"] == [
        'python -m pip install --force-reinstall "onnxruntime-gpu<2,>=1.22"'
    ]


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_library_that_kills_its_process_is_a_finding_behind_those_before_it(broken: Path) -> None:
    (broken / "deadly.py").write_text(
        "import os, signal\nfrom genie_onnx.environment.finding import ok\n"
        "def probe():\n    yield ok('test', 'so far')\n    os.kill(os.getpid(), signal.SIGILL)\n"
    )
    first, last = examine(probe("deadly:probe"))
    assert (first.level, first.text) == ("ok", "so far")
    assert last.level == "problem"
    assert "Illegal instruction" in last.text


def test_a_library_that_hangs_is_a_finding(broken: Path) -> None:
    (broken / "slow.py").write_text("import time\ndef probe():\n    time.sleep(60)\n    yield\n")
    (only,) = examine(probe("slow:probe", seconds=0.5))
    assert "did not come back within 0.5 s" in only.text


def test_a_problem_is_exit_code_1_and_leaves_the_smoke_test_out(broken: Path) -> None:
    (broken / "torch.py").write_text("raise ImportError('no torch today')")
    result = CliRunner().invoke(main, ["doctor", "-q"])
    assert result.exit_code == 1
    assert "problem  torch         ImportError: no torch today" in result.stdout
    assert '-> python -m pip install --force-reinstall "torch' in result.stdout
    assert "the smoke test was left out" in result.stdout
    assert "error: 1 problem found" in result.stderr


def installed(monkeypatch: pytest.MonkeyPatch, requires: list[str], **versions: str) -> None:
    """Make metadata say that `versions` are installed, and that this package asks for `requires`."""

    def version(name: str) -> str:
        if name.replace("-", "_") not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name.replace("-", "_")]

    monkeypatch.setattr(packages.metadata, "requires", lambda name: requires)
    monkeypatch.setattr(packages.metadata, "version", version)


def test_packages_against_their_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["torch<3,>=2.11", "numpy>=2", "rich>=13", 'pytest>=9; extra == "test"', 'winonly; sys_platform == "nowhere"']
    installed(monkeypatch, asked, torch="2.4.0+cpu", numpy="2.4.6")
    found = list(packages.requirements())
    assert [(f.level, f.text) for f in found] == [
        ("problem", "torch 2.4.0+cpu is not <3,>=2.11"),
        ("problem", "rich is not installed"),
        ("ok", "numpy 2.4.6"),
    ]
    assert found[0].todo == 'python -m pip install "torch<3,>=2.11"'


@pytest.mark.parametrize(
    ("versions", "level", "text"),
    [
        ({"onnxruntime": "1.31.1", "onnxruntime_gpu": "1.31.1"}, "problem", "are both installed"),
        ({"onnxruntime_gpu": "1.31.1"}, "ok", "onnxruntime-gpu 1.31.1"),
        ({"onnxruntime": "1.31.1"}, "note", "in place of onnxruntime-gpu"),
        ({"onnxruntime_gpu": "1.20"}, "problem", "is not <2,>=1.22"),
        ({}, "problem", "no onnxruntime is installed"),
    ],
    ids=["both", "as asked", "the other", "too old", "none"],
)
def test_one_onnxruntime(versions: dict[str, str], level: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, ["onnxruntime-gpu<2,>=1.22", 'onnxruntime<2,>=1.22; sys_platform == "nowhere"'], **versions)
    (found,) = packages.onnxruntimes()
    assert found.level == level
    assert text in found.text


def test_a_cpu_without_vnni(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("model name\t: Old CPU\nflags\t\t: fpu avx2 avx512f\n")
    listed, warned = machine.cpu(tmp_path / "cpuinfo")
    assert listed.text == "Old CPU: AVX2, AVX-512"
    assert (warned.level, "--reduce-range" in warned.todo) == ("note", True)
    assert {flag for flag, word in machine.EXTENSIONS.items() if word == "VNNI"} == saturation.VNNI


def test_threads_that_are_left_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: range(8), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    (found,) = machine.threads()
    assert (found.level, found.todo) == ("note", "unset OMP_NUM_THREADS")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert next(machine.threads()).level == "ok"
