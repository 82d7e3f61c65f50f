"""Loops over arrays on the CPU, compiled by numba: one pass through memory where torch's operators take five or more.

Arrays are flat, in order of memory: float32, or uint16 with the bits of bfloat16, which are widened and rounded again a chunk at
a time, in the cache; all arithmetic is float32. A mask is one bit an element, element i in bit i % 32 of word i // 32 (masks).
Large arrays are shared out among torch's threads, whole words to each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, TypeVar

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from genie_onnx.machine.user_cache import cache_folder
from genie_onnx.quant.masks import WORD

CHUNK = 1024  # elements worked on at once; their slopes are added up in float32, the sums of chunks in float64
SPREAD = 2**17  # elements from which on more threads than one are worth waking (measured)
_ONE, _ZERO = np.uint32(1), np.float32(0)

T = TypeVar("T")
# The sum of slopes may be taken in any order, which lets it be vectorised; divisions and roundings stay as they are.
_ANY_ORDER = {"reassoc", "nsz"}


def compiled(function: Callable[..., Any], fastmath: set[str] | bool = False) -> Callable[..., Any]:
    """Compile `function` when it is first called; once a machine where that can be kept, else once a process."""
    # error_model numpy: no check for division by zero in the loop
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "fastmath": fastmath}
    try:
        with _kept_for_the_user():
            kept: Callable[..., Any] = numba.njit(cache=True, **options)(function)
    except (RuntimeError, OSError):  # numba finds no folder to write to, or there is no home
        kept = numba.njit(**options)(function)
    return kept


@contextmanager
def _kept_for_the_user() -> Iterator[None]:
    """Let numba keep what it compiles in the user's cache, and not beside the sources, unless NUMBA_CACHE_DIR says where."""
    settings: Any = numba.config  # made when it is imported: no stub knows what is in it
    before = settings.CACHE_DIR
    settings.CACHE_DIR = before or str(cache_folder() / "numba")
    try:
        yield
    finally:
        settings.CACHE_DIR = before


@intrinsic
def _float_of(context: Any, bits: Any) -> Any:
    """bfloat16, as uint16 -> float32: its upper half."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = builder.shl(builder.zext(arguments[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(word, ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def _bits_of(context: Any, number: Any) -> Any:
    """float32 -> bfloat16, as uint16: rounded to nearest, ties to even."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        bits = builder.bitcast(arguments[0], word)
        odd = builder.and_(builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 1))
        rounded = builder.add(builder.add(bits, ir.Constant(word, 0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, ir.Constant(word, 16)), ir.IntType(16))

    return types.uint16(types.float32), generate


def _wide(part: Any, room: Any) -> Any:
    """Return the numbers of `part` as float32: itself, or widened into `room`."""


def _room_for(part: Any, room: Any) -> Any:
    """Return where float32 numbers for `part` are written to: itself, or `room`."""


def _finished(numbers: Any, part: Any) -> None:
    """Round what was written to `_room_for` to the type of `part`."""


@overload(_wide)
def _(part: Any, room: Any) -> Callable[[Any, Any], Any]:
    def itself(part: Any, room: Any) -> Any:
        return part

    def widened(part: Any, room: Any) -> Any:
        for i in range(part.size):
            room[i] = _float_of(part[i])  # type: ignore[call-arg]  # numba passes the context
        return room[: part.size]

    return itself if part.dtype == types.float32 else widened


@overload(_room_for)
def _(part: Any, room: Any) -> Callable[[Any, Any], Any]:
    def itself(part: Any, room: Any) -> Any:
        return part

    def beside(part: Any, room: Any) -> Any:
        return room[: part.size]

    return itself if part.dtype == types.float32 else beside


@overload(_finished)
def _(numbers: Any, part: Any) -> Callable[[Any, Any], None]:
    def already(numbers: Any, part: Any) -> None:
        pass

    def rounded(numbers: Any, part: Any) -> None:
        for i in range(part.size):
            part[i] = _bits_of(numbers[i])  # type: ignore[call-arg]

    return already if part.dtype == types.float32 else rounded


# In these loops both sides of a choice are read before it is made: a read that depends on it could not be vectorised.


@compiled
def _quantize_chunk(x: Any, words: Any, scale: Any, low: Any, high: Any, y: Any) -> None:
    for j in range(x.size // WORD):
        word = words[j]
        for k in range(WORD):
            v = x[j * WORD + k]
            q = np.rint(np.minimum(np.maximum(v / scale, low), high)) * scale
            y[j * WORD + k] = q if (word >> np.uint32(k)) & _ONE else v
    for i in range(x.size - x.size % WORD, x.size):
        q = np.rint(np.minimum(np.maximum(x[i] / scale, low), high)) * scale
        y[i] = q if (words[i // WORD] >> np.uint32(i % WORD)) & _ONE else x[i]


@partial(compiled, fastmath=_ANY_ORDER)
def _slopes_chunk(x: Any, words: Any, grad: Any, scale: Any, low: Any, high: Any, grad_x: Any) -> Any:
    total: Any = _ZERO
    for j in range(x.size // WORD):
        word = words[j]
        for k in range(WORD):
            i = j * WORD + k
            u, g = x[i] / scale, grad[i]
            inside = (u > low) & (u < high)
            kept = ((word >> np.uint32(k)) & _ONE) != 0
            slope = np.rint(np.minimum(np.maximum(u, low), high)) - (u if inside else _ZERO)
            total += (g if kept else _ZERO) * slope
            grad_x[i] = g if inside | (not kept) else _ZERO
    for i in range(x.size - x.size % WORD, x.size):
        u = x[i] / scale
        inside = (u > low) & (u < high)
        kept = ((words[i // WORD] >> np.uint32(i % WORD)) & _ONE) != 0
        slope = np.rint(np.minimum(np.maximum(u, low), high)) - (u if inside else _ZERO)
        total += (grad[i] if kept else _ZERO) * slope
        grad_x[i] = grad[i] if inside | (not kept) else _ZERO
    return total


@compiled
def _select_chunk(words: Any, where_set: Any, elsewhere: Any, y: Any) -> None:
    for j in range(y.size // WORD):
        word = words[j]
        for k in range(WORD):
            i = j * WORD + k
            a, b = where_set[i], elsewhere[i]
            y[i] = a if (word >> np.uint32(k)) & _ONE else b
    for i in range(y.size - y.size % WORD, y.size):
        y[i] = where_set[i] if (words[i // WORD] >> np.uint32(i % WORD)) & _ONE else elsewhere[i]


@compiled
def _quantize(x: Any, words: Any, scale: Any, low: Any, high: Any, y: Any) -> None:
    rooms = np.empty((2, CHUNK), np.float32)
    for a in range(0, x.size, CHUNK):
        b = min(a + CHUNK, x.size)
        out = _room_for(y[a:b], rooms[1])
        _quantize_chunk(_wide(x[a:b], rooms[0]), words[a // WORD : -(-b // WORD)], scale, low, high, out)
        _finished(out, y[a:b])


@compiled
def _slopes(x: Any, words: Any, grad: Any, scale: Any, low: Any, high: Any, grad_x: Any) -> float:
    rooms = np.empty((3, CHUNK), np.float32)
    total = 0.0
    for a in range(0, x.size, CHUNK):
        b = min(a + CHUNK, x.size)
        wide, wide_grad, out = _wide(x[a:b], rooms[0]), _wide(grad[a:b], rooms[1]), _room_for(grad_x[a:b], rooms[2])
        total += _slopes_chunk(wide, words[a // WORD : -(-b // WORD)], wide_grad, scale, low, high, out)
        _finished(out, grad_x[a:b])
    return total


@compiled
def _select(words: Any, where_set: Any, elsewhere: Any, y: Any) -> None:
    rooms = np.empty((3, CHUNK), np.float32)
    for a in range(0, y.size, CHUNK):
        b = min(a + CHUNK, y.size)
        out = _room_for(y[a:b], rooms[2])
        one, other = _wide(where_set[a:b], rooms[0]), _wide(elsewhere[a:b], rooms[1])
        _select_chunk(words[a // WORD : -(-b // WORD)], one, other, out)
        _finished(out, y[a:b])


@compiled
def _scaled_difference(x: Any, y: Any, factor: Any, z: Any) -> None:
    rooms = np.empty((3, CHUNK), np.float32)
    for a in range(0, z.size, CHUNK):
        b = min(a + CHUNK, z.size)
        left, right, out = _wide(x[a:b], rooms[0]), _wide(y[a:b], rooms[1]), _room_for(z[a:b], rooms[2])
        for i in range(out.size):
            out[i] = factor * (left[i] - right[i])
        _finished(out, z[a:b])


def quantize(x: np.ndarray, words: np.ndarray, scale: np.float32, low: np.float32, high: np.float32, y: np.ndarray) -> None:
    """Write s round(clip(x / s, low, high)) to `y` where the mask is set, x elsewhere. [n] each; words uint32."""
    _shared_out(x.size, lambda part, whole: _quantize(x[part], words[whole], scale, low, high, y[part]))


def quantize_slopes(
    x: np.ndarray,
    words: np.ndarray,
    grad: np.ndarray,
    scale: np.float32,
    low: np.float32,
    high: np.float32,
    grad_x: np.ndarray,
) -> float:
    """Write the slope of `quantize` for x to `grad_x`, and return that for the scale (LSQ; see fake_quant)."""
    parts = _shared_out(x.size, lambda part, whole: _slopes(x[part], words[whole], grad[part], scale, low, high, grad_x[part]))
    return float(sum(parts))


def select(words: np.ndarray, where_set: np.ndarray, elsewhere: np.ndarray, y: np.ndarray) -> None:
    """Write to `y` the elements of `where_set` where the mask is set, and of `elsewhere` where it is not."""
    _shared_out(y.size, lambda part, whole: _select(words[whole], where_set[part], elsewhere[part], y[part]))


def scaled_difference(x: np.ndarray, y: np.ndarray, factor: np.float32, z: np.ndarray) -> None:
    """Write factor (x - y) to `z`."""
    _shared_out(z.size, lambda part, _: _scaled_difference(x[part], y[part], factor, z[part]))


def _shared_out(elements: int, work: Callable[[slice, slice], T]) -> list[T]:
    """Call `work` with (elements, words of the mask) for consecutive parts, one for each of torch's threads; results in order."""
    threads = torch.get_num_threads() if elements >= SPREAD else 1
    if threads == 1:
        return [work(slice(0, elements), slice(None))]
    words = -(-elements // (WORD * threads))
    starts = range(0, -(-elements // WORD), words)
    parts = [(slice(k * WORD, min((k + words) * WORD, elements)), slice(k, k + words)) for k in starts]
    return list(_pool(threads).map(lambda part: work(*part), parts))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "genie-onnx")
