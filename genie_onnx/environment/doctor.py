"""All probes of this machine, side by side; the smoke test last, where nothing is broken."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

from genie_onnx.environment.finding import Finding, note
from genie_onnx.environment.isolated import Probe, examine

AT_ONCE = 2  # torch alone takes hundreds of megabytes


def probes() -> list[Probe]:
    """Return what is looked at, in the order of the findings; a probe that needs a library is a module of its own."""
    return [
        _probe("packages", "packages", "packaging"),
        _probe("machine", "machine", "psutil"),
        _probe("torch", "torch_probe", "torch"),
        _probe("onnxruntime", "onnxruntime_probe", _onnxruntime()),
        _probe("verify", "runtimes_probe", "onnx"),
    ]


def smoke_test() -> Probe:
    """Return the last one."""
    todo = "nothing else was found to be wrong: please report it with the output of genie-onnx doctor --json"
    return Probe(topic="smoke", function=f"{__package__}.smoke:probe", todo=todo, seconds=300)


def doctor(*, smoke: bool = True, progress: Callable[[str], None] = lambda topic: None) -> tuple[Finding, ...]:
    """Examine this installation and machine: packages, CPU, memory, GPU as torch and onnxruntime see it, runtimes of `verify`.

    Args:
        smoke: at last, quantize a tiny model, for some seconds; where a problem was found before, that is not tried.
        progress: told the topic of each probe when it is done; what it raises ends the call.

    Returns what was found, in this order. Raises nothing of its own: each part is examined in a Python of its own, and what is
    broken there is a Finding of level "problem".

    >>> import genie_onnx
    >>> findings = genie_onnx.doctor(smoke=False)
    >>> findings[0].topic, findings[0].level
    ('python', 'ok')
    """
    found: list[Finding] = []
    rows = probes()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for row, findings in zip(rows, pool.map(examine, rows), strict=True):
            found += findings
            progress(row.topic)
    if smoke and any(finding.level == "problem" for finding in found):
        found.append(note("smoke", "the smoke test was left out", "mend the problems above first"))
    elif smoke:
        found += examine(smoke_test())
        progress("smoke")
    return tuple(found)


def _probe(topic: str, module: str, package: str) -> Probe:
    return Probe(
        topic=topic, function=f"{__package__}.{module}:probe", todo=f'python -m pip install --force-reinstall "{_range(package)}"'
    )


def _onnxruntime() -> str:
    """Return which of its two packages is installed: they share a folder, so it is the one to mend."""
    installed = {found.name for found in metadata.distributions() if found.name in ("onnxruntime", "onnxruntime-gpu")}
    return "onnxruntime-gpu" if "onnxruntime-gpu" in installed else "onnxruntime"


def _range(package: str) -> str:
    """Return what is required of `package`, as pip takes it."""
    try:
        lines = [line.partition(";")[0].strip() for line in metadata.requires("genie-onnx") or []]
    except metadata.PackageNotFoundError:
        lines = []
    return next((line for line in lines if line.startswith((f"{package}<", f"{package}>", f"{package}="))), package)
