"""Memory that runs out: one sentence in place of a traceback out of numpy, torch or onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from genie_onnx.errors import RunError

# What torch ("DefaultCPUAllocator: can't allocate memory", "CUDA out of memory") and onnxruntime ("Failed to allocate memory
# for requested buffer", "std::bad_alloc") say; neither has a class of its own for it on every device.
_PHRASES = ("out of memory", "can't allocate memory", "failed to allocate memory", "bad_alloc", "bad allocation")


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise RunError where the body runs out of memory, of the machine or of the device."""
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions have no other base in common
        if not isinstance(error, MemoryError) and not any(phrase in str(error).lower() for phrase in _PHRASES):
            raise
        raise RunError(
            "there is not enough memory: take fewer --samples, a smaller --input-size, or a machine (--device) with more; "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
