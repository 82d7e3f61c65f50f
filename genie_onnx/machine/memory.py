"""How much memory a run may take, and what is said when there is none left: one sentence, no traceback out of a library.

"8GB", "16GB,8GB"  ->  Budget
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from genie_onnx.errors import ConfigError, RunError

_UNITS = {"k": 1, "m": 2, "g": 3, "t": 4}

# What torch ("DefaultCPUAllocator: can't allocate memory", "CUDA out of memory") and onnxruntime ("Failed to allocate memory
# for requested buffer", "std::bad_alloc") say; neither has a class of its own for it on every device.
_PHRASES = ("out of memory", "can't allocate memory", "failed to allocate memory", "bad_alloc", "bad allocation")


@dataclass(frozen=True)
class Budget:
    """Bytes that the large tensors of a run may take: `compute` in the memory of the device that computes, `host` in that of
    the machine beside it (0 where the machine itself computes).

    `step`: what one batch of distillation may hold, or it goes through the network in pieces. That changes the order of sums, so
    it is fixed by the option or by the size of the machine, never by what happens to be free. None: any.
    """

    compute: int
    host: int = 0
    step: int | None = None


def parse_sizes(text: str) -> tuple[int, ...]:
    """Return the bytes of one or two sizes: ``8GB`` (10^9 each), ``7.5GiB`` (2^30), ``16GB,8GB``. Raises ConfigError."""
    sizes = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt])(i?)b\s*", part, re.IGNORECASE)
        size = int(float(found[1]) * (1024 if found[3] else 1000) ** _UNITS[found[2].lower()]) if found else 0
        if not size:
            raise ConfigError(f"--memory-budget: {part.strip()!r} is not a size above 0 such as 8GB, 512MB or 7.5GiB")
        sizes.append(size)
    if len(sizes) > 2:
        raise ConfigError(f"--memory-budget takes one size, or two for a GPU and the machine (16GB,8GB), not {len(sizes)}")
    return tuple(sizes)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, of the machine or of the device."""
    return isinstance(error, MemoryError) or any(phrase in str(error).lower() for phrase in _PHRASES)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise RunError where the body runs out of memory, of the machine or of the device."""
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions have no other base in common
        if not is_out_of_memory(error):
            raise
        raise RunError(
            "there is not enough memory: give a smaller --memory-budget or --batch-size, take fewer --samples, a smaller "
            "--input-size, or a machine (--device) with more; "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
