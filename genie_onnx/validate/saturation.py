"""Where 8-bit weights saturate: onnxruntime on x86 CPUs that have AVX2 or AVX-512, but no VNNI.

    u8 s8 + u8 s8 -> int16        is what their multiply-add (vpmaddubsw) does, and 2 * 255 * 127 does not fit; 2 * 255 * 64 does

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html ("When and why do I need to try U8U8?")
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

CPUINFO = Path("/proc/cpuinfo")
VNNI = frozenset({"avx512_vnni", "avx_vnni"})
LARGEST = 64  # magnitude of a weight that cannot saturate
_LAYERS = ("Conv", "Gemm", "MatMul")  # ConvTranspose has no integer kernel


def has_vnni(cpuinfo: Path = CPUINFO) -> bool | None:
    """Return whether an x86 CPU has VNNI, from the flags that Linux lists; None on other systems and other CPUs."""
    if not cpuinfo.exists():
        return None
    flags = [line.partition(":")[2].split() for line in cpuinfo.read_text().splitlines() if line.startswith("flags")]
    return bool(VNNI.intersection(flags[0])) if flags else None


def wide_weights(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Return the INT8 tensors of `proto` that layers read as weights and that hold codes beyond -64..64."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    read = {name for node in proto.graph.node if node.op_type in _LAYERS for name in node.input[1:2]}
    codes = (
        node.input[0]
        for node in proto.graph.node
        if node.op_type == "DequantizeLinear" and node.output[0] in read and node.input[0] in constants
    )
    return tuple(
        name
        for name in dict.fromkeys(codes)
        if np.abs(numpy_helper.to_array(constants[name]).astype(np.int16)).max(initial=0) > LARGEST
    )
