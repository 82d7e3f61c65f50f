"""How large a model is: as a file, at its true bits, and compressed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import onnx
import onnx_ir as ir

from genie_onnx.graph import query

CHUNK = 2**24  # bytes given to the compressor at once
LARGEST = 2**29  # bytes; a larger file is not compressed just to be measured: half a minute for each gigabyte


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes. `packed`: quantised weights at their true bits, all else as in the float model; gzip is at level 6."""

    float_file: int
    float_gzip: int | None
    file: int
    file_gzip: int | None
    packed: int

    def to_json(self) -> dict[str, int | None]:
        """Return the figures as plain data."""
        return asdict(self)


def sizes(user: ir.Model, deploy: ir.Model, bits: Mapping[str, int], proto: onnx.ModelProto) -> Sizes:
    """Return the sizes of `user`, and of `proto` made of it; `bits` has those of each quantised initializer of `deploy`."""
    before, after = ir.to_proto(user).SerializeToString(), proto.SerializeToString()
    return Sizes(
        float_file=len(before),
        float_gzip=_compressed(before),
        file=len(after),
        file_gzip=_compressed(after),
        packed=packed(deploy, bits)[0],
    )


def packed(deploy: ir.Model, bits: Mapping[str, int]) -> tuple[int, int]:
    """Return the bytes of all initializers with those in `bits` at so many bits, and the number of parameters."""
    total_bits = parameters = 0
    for name, value in deploy.graph.initializers.items():
        array = query.constant(value)
        if array is None:
            continue
        total_bits += array.size * bits.get(name, 8 * array.itemsize)
        parameters += array.size if array.dtype.kind == "f" else 0
    return -(-total_bits // 8), parameters


def _compressed(data: bytes) -> int | None:
    if len(data) > LARGEST:
        return None
    compressor = zlib.compressobj(6)
    view = memoryview(data)
    count = sum(len(compressor.compress(view[start : start + CHUNK])) for start in range(0, len(data), CHUNK))
    return count + len(compressor.flush())
