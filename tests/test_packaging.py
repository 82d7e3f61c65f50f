"""What setup.cfg promises: packages and files shipped, imports required, requirements pinned, one onnxruntime a platform."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
DRIVERS = ROOT / "genie_onnx" / "validate" / "runtimes"  # where runtimes may be imported that are not required
RUNTIMES = {
    "openvino": ("openvino",),
    "tvm": ("apache-tvm",),
    "iree": ("iree-base-compiler", "iree-base-runtime"),
    "rknn": (),  # no extra: they want a Python of their own
    "onnxruntime_qnn": (),
    "qonnx": (),
    "hls4ml": (),
    "ai_edge_litert": (),
    "ethosu": (),
}
WRITERS = ROOT / "genie_onnx" / "exporter" / "litert"  # likewise, of a form of file
WRITER_EXTRAS = {"litert": ("flatbuffers", "tflite")}
FOLDERS = {"genie_onnx": ROOT / "genie_onnx", "genie_onnx_cli": ROOT / "cli"}
PLATFORMS = {
    "linux-x86_64": {"sys_platform": "linux", "platform_machine": "x86_64"},
    "linux-aarch64": {"sys_platform": "linux", "platform_machine": "aarch64"},
    "windows-amd64": {"sys_platform": "win32", "platform_machine": "AMD64"},
    "windows-arm64": {"sys_platform": "win32", "platform_machine": "ARM64"},
    "macos-arm64": {"sys_platform": "darwin", "platform_machine": "arm64"},
    "macos-x86_64": {"sys_platform": "darwin", "platform_machine": "x86_64"},
}


def lines(section: str, option: str) -> list[str]:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config[section][option].split("\n")[1:]


def requirements() -> list[Requirement]:
    return [Requirement(line) for line in lines("options", "install_requires")]


def extras() -> list[str]:
    """Return the names of the extras that are runtimes."""
    return [name for name, distributions in RUNTIMES.items() if distributions]


def extra_requirements(extra: str) -> list[Requirement]:
    return [Requirement(line) for line in lines("options.extras_require", extra)]


def packages() -> dict[str, Path]:
    """Return every folder with an __init__.py, under the name it is installed as."""
    found = {}
    for name, folder in FOLDERS.items():
        for init in folder.rglob("__init__.py"):
            found[".".join([name, *init.parent.relative_to(folder).parts])] = init.parent
    return found


def test_the_list_of_packages_is_that_of_the_folders() -> None:
    assert lines("options", "packages") == sorted(packages())


def test_every_folder_of_sources_is_a_package() -> None:
    folders = {file.parent for folder in FOLDERS.values() for file in folder.rglob("*.py")}
    assert folders == set(packages().values())


def test_requirements_are_what_is_imported() -> None:
    distributions = packages_distributions()
    required = {canonicalize_name(requirement.name) for requirement in requirements()}
    missing, used = set(), set()
    for folder in FOLDERS.values():
        for file in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
                for name in (name.split(".")[0] for name in names):
                    if name in sys.stdlib_module_names or name in FOLDERS or (file.parent == DRIVERS and name in RUNTIMES):
                        continue
                    if file.parent == WRITERS and any(name in extra for extra in WRITER_EXTRAS.values()):
                        continue
                    providers = {canonicalize_name(found) for found in distributions.get(name, [name])} & required
                    used |= providers
                    if not providers:
                        missing.add(f"{file.relative_to(ROOT)}: {name}")
    assert missing == set()
    # one of the first two provides the module; onnx2torch is imported by name, because torchvision has to be replaced first
    assert required - used - {"onnxruntime", "onnxruntime-gpu", "onnx2torch"} == set()


@pytest.mark.parametrize("extra", extras())
def test_an_extra_is_what_its_runtime_imports(extra: str) -> None:
    assert tuple(requirement.name for requirement in extra_requirements(extra)) == RUNTIMES[extra]


@pytest.mark.parametrize("extra", WRITER_EXTRAS)
def test_an_extra_is_what_its_writer_imports(extra: str) -> None:
    assert tuple(requirement.name for requirement in extra_requirements(extra)) == WRITER_EXTRAS[extra]


def test_every_requirement_has_a_tested_version_within_its_range() -> None:
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pinned[canonicalize_name(name)] = version
    for requirement in [
        *requirements(),
        *(r for extra in ("test", "docs", *extras(), *WRITER_EXTRAS) for r in extra_requirements(extra)),
    ]:
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize(
    ("platform", "name"),
    [(key, "onnxruntime-gpu" if key in ("linux-x86_64", "windows-amd64") else "onnxruntime") for key in PLATFORMS],
)
def test_one_onnxruntime_a_platform(platform: str, name: str) -> None:
    chosen = [
        requirement.name
        for requirement in requirements()
        if requirement.name.startswith("onnxruntime") and requirement.marker and requirement.marker.evaluate(PLATFORMS[platform])
    ]
    assert chosen == [name]


def test_the_wheel_holds_every_file(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a build leaves folders behind
    for name in ("genie_onnx", "cli"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        tmp_path,
        source,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = [archive.read(name).decode() for name in archive.namelist() if name.endswith("entry_points.txt")]
    expected = {
        f"{name}/{file.relative_to(folder).as_posix()}"
        for name, folder in FOLDERS.items()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert held == expected
    assert "genie-onnx = genie_onnx_cli.main:main" in entry_points


@pytest.mark.skipif(
    importlib.util.find_spec("genie_onnx_cli") is None, reason="the project is not installed, only its source is here"
)
def test_python_m_genie_onnx_is_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "genie_onnx", "--help"]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert found.stdout.startswith("Usage: genie-onnx ")
