"""The CPU, its threads, memory and disk: what decides how fast a run is, and whether it fits. No torch."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from genie_onnx.environment.finding import Finding, note, ok

FREE_MEMORY, FREE_DISK = 2e9, 2e9  # bytes below which a word is said
CPUINFO = Path("/proc/cpuinfo")
EXTENSIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "VNNI",
    "avx512_vnni": "VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX",
}


def probe() -> Iterator[Finding]:
    """All of it."""
    yield from cpu()
    yield from threads()
    yield from room()


def has_driver() -> bool:
    """Whether NVIDIA's driver is installed."""
    return shutil.which("nvidia-smi") is not None


def cpu(cpuinfo: Path = CPUINFO) -> Iterator[Finding]:
    """What the CPU computes with, where the system tells."""
    flags, name = _described(cpuinfo)
    if not flags:
        yield ok("cpu", f"{name}: this system does not list what it computes with")
        return
    has = list(dict.fromkeys(word for flag, word in EXTENSIONS.items() if flag in flags))
    yield ok("cpu", f"{name}: {', '.join(has) or 'no AVX2'}")
    if "VNNI" not in has:
        yield note(
            "cpu",
            "without VNNI, weights of 8 bits may saturate in onnxruntime's integer kernels here (verify says so of a file)",
            "where the file is for CPUs like this one: --reduce-range",
        )


def threads() -> Iterator[Finding]:
    """How many threads a run has."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = psutil.cpu_count(logical=False)
    size = f"{there} CPUs for this process" + (f" ({cores} cores in the machine)" if cores else "")
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and 0 < int(asked) < there:
        yield note("cpu", f"{size}, of which OMP_NUM_THREADS={asked} lets a run use {asked}", "unset OMP_NUM_THREADS")
    else:
        yield ok("cpu", size)


def room() -> Iterator[Finding]:
    """Memory that is free, and the disk of the current folder."""
    memory = psutil.virtual_memory()
    text = f"{memory.available / 1e9:.1f} GB of {memory.total / 1e9:.1f} GB of memory are free"
    if memory.available < FREE_MEMORY:
        yield note("memory", text, "end other programs; small images and --memory-budget help as well")
    else:
        yield ok("memory", text)
    folder = Path.cwd()
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB of disk are free in {folder}"
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield note("disk", f"{folder} cannot be written to ({error.strerror})", "write elsewhere: -o and --run-dir")
        return
    if free < FREE_DISK:
        yield note("disk", text, "values that do not fit into memory lie in the run directory: choose its place with --run-dir")
    else:
        yield ok("disk", text)


def _described(cpuinfo: Path) -> tuple[frozenset[str], str]:
    """Return the flags and the name of the first CPU in a file like Linux's /proc/cpuinfo."""
    fields: dict[str, str] = {}
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or platform.machine()
    return frozenset(fields.get("flags", "").split()), name
