"""Which packages are installed, against the ranges that this one asks for. None of them is imported."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from genie_onnx.environment.finding import Finding, note, ok, problem

RUNTIMES = ("onnxruntime-gpu", "onnxruntime")  # one of them; PyPI has the first for some platforms only


def probe() -> Iterator[Finding]:
    """All of it."""
    yield from python()
    yield from requirements()
    yield from onnxruntimes()


def python() -> Iterator[Finding]:
    """The interpreter and this package."""
    yield ok("python", f"Python {platform.python_version()} on {platform.platform()}")
    try:
        yield ok("python", f"genie-onnx {metadata.version('genie-onnx')}")
    except metadata.PackageNotFoundError:
        yield note("python", "genie-onnx is not installed as a package", "python -m pip install .")


def requirements() -> Iterator[Finding]:
    """What is required: all that fit in one finding, each other one in its own."""
    fitting = []
    for requirement in (r for r in _required() if r.name not in RUNTIMES and _here(r)):
        name, wanted = requirement.name, requirement.specifier
        found = _version(name)
        if found is None:
            yield problem("packages", f"{name} is not installed", f'python -m pip install "{name}{wanted}"')
        elif not wanted.contains(found, prereleases=True):
            yield problem("packages", f"{name} {found} is not {wanted}", f'python -m pip install "{name}{wanted}"')
        else:
            fitting.append(f"{name} {found}")
    if fitting:
        yield ok("packages", ", ".join(fitting))


def onnxruntimes() -> Iterator[Finding]:
    """One of two packages that share a folder: the one that came last lies over the other, and its leaving damages both."""
    rows = [r for r in _required() if r.name in RUNTIMES]
    ranges = {r.name: r.specifier for r in rows}
    installed = {name: version for name in RUNTIMES if (version := _version(name)) is not None}
    asked = next((r.name for r in rows if _here(r)), "onnxruntime")
    if len(installed) > 1:
        yield problem(
            "onnxruntime",
            "onnxruntime and onnxruntime-gpu are both installed: they write to the same folder, so what is there is a mixture",
            f"python -m pip uninstall -y onnxruntime onnxruntime-gpu && python -m pip install {asked}",
        )
        return
    if not installed:
        yield problem("onnxruntime", "no onnxruntime is installed", f'python -m pip install "{asked}{ranges.get(asked, "")}"')
        return
    ((name, version),) = installed.items()
    if name in ranges and not ranges[name].contains(version, prereleases=True):
        yield problem("onnxruntime", f"{name} {version} is not {ranges[name]}", f'python -m pip install "{name}{ranges[name]}"')
    elif name == asked:
        yield ok("onnxruntime", f"{name} {version}")
    else:
        yield note("onnxruntime", f"{name} {version} in place of {asked}: it serves as well, on the CPU; `pip check` complains")


def _required() -> list[Requirement]:
    """Return the requirements of this package on every platform, those of its extras left out."""
    try:
        listed = [Requirement(line) for line in metadata.requires("genie-onnx") or []]
    except metadata.PackageNotFoundError:
        return []
    return [r for r in listed if r.marker is None or "extra" not in str(r.marker)]


def _here(requirement: Requirement) -> bool:
    """Whether `requirement` is one on this platform."""
    return requirement.marker is None or requirement.marker.evaluate()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
