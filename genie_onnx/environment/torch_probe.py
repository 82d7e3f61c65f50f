"""What torch computes on: the GPUs that it sees, or why it sees none; and what a run takes that says nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib import import_module

import torch

from genie_onnx.environment.finding import Finding, note, ok, problem
from genie_onnx.environment.machine import has_driver
from genie_onnx.forms import verdicts
from genie_onnx.machine.compute import choose_precision
from genie_onnx.machine.device import choose_device, default_preset, memory_budget


def probe() -> Iterator[Finding]:
    """torch's devices, the defaults that follow from them, what was tried, and torchvision, which needs the very same torch."""
    yield from _devices()
    yield _defaults()
    yield _convolutions()
    yield from _torchvision()


def _devices() -> Iterator[Finding]:
    """torch's GPUs, each tried with a product of matrices."""
    with warnings.catch_warnings(record=True) as caught:  # torch says there why it can use none
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    version = f"torch {torch.__version__}"
    if there:
        for index in range(torch.cuda.device_count()):
            yield _gpu(index)
    elif not has_driver():
        yield ok("gpu", f"{version}: no NVIDIA GPU here, everything is computed on the CPU")
    elif torch.version.cuda is None:
        yield note(
            "gpu",
            f"there is an NVIDIA driver, but {version} is a build for the CPU: the GPU is not used",
            f"python -m pip install --force-reinstall torch=={torch.__version__.partition('+')[0]}; on Windows with --index-url, "
            "see https://pytorch.org/get-started/locally",
        )
    else:
        reason = "; ".join(str(warning.message).split(" (Triggered")[0] for warning in caught) or "it says no more"
        yield note(
            "gpu",
            f"{version} is built for CUDA {torch.version.cuda} and cannot use the GPU: {reason}",
            "compare with the CUDA version that nvidia-smi shows: update the driver, or install a torch for an older CUDA "
            "(https://pytorch.org/get-started/previous-versions)",
        )


def _gpu(index: int) -> Finding:
    described = torch.cuda.get_device_properties(index)
    kind, size = f"compute capability {described.major}.{described.minor}", f"{described.total_memory / 1e9:.0f} GB"
    name = f"cuda:{index} {described.name}, {size}, {kind}"
    try:
        torch.ones(8, 8, device=f"cuda:{index}").square().sum().item()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        return problem(
            "gpu",
            f"torch {torch.__version__} sees {name}, but cannot compute on it: {reason}",
            "install a torch that is built for it (https://pytorch.org/get-started/locally), or use --device cpu",
        )
    return ok("gpu", f"torch {torch.__version__} (CUDA {torch.version.cuda}) computes on {name}")


def _defaults() -> Finding:
    """What a run takes that says nothing."""
    device = choose_device("auto")
    budget = memory_budget(None, device)
    return ok(
        "defaults",
        f"a run takes --device {device.type} --preset {default_preset('auto')} --precision {choose_precision(None, device)} "
        f"--memory-budget {budget.compute / 1e9:.1f}GB, {torch.get_num_threads()} threads",
    )


def _convolutions() -> Finding:
    """What is known of convolutions on this CPU: a run tries what it does not know."""
    known, bad = verdicts.load(), list[str]()
    for case, found in known.items():
        bad += [f"{case}, {trial}: {verdict.problem}" for trial, verdict in found.items() if verdict.seconds is None]
    if not verdicts.can_keep():
        return note(
            "convolutions",
            "verdicts about convolutions cannot be kept in the user's cache, so all are computed in contiguous float32",
            "make ~/.cache writable, or set XDG_CACHE_HOME to a folder that is",
        )
    text = f"{len(known)} were tried on this CPU, in several forms each: {verdicts.verdict_file()}"
    return ok("convolutions", f"{text}; {len(bad)} forms are bad and never used, such as {bad[0]}" if bad else text)


def _torchvision() -> Iterator[Finding]:
    """onnx2torch asks for it and imports it; here a stand-in is given to it."""
    try:
        import_module("torchvision")
    except Exception as error:  # a build for another torch raises what it likes
        reason = " ".join(str(error).split())[:120]
        yield note("packages", f"torchvision cannot be imported ({reason}): harmless, it is never used")
