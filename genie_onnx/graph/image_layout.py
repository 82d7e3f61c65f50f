"""Where the image input has its channels: [N, C, H, W], or [N, H, W, C] as Keras, tf2onnx and jax2onnx write it.

    x -> Mul -> Add -> Transpose (0, 3, 1, 2) -> Conv        the last axis becomes the channels of a Conv: nhwc
    x -> Pad -> Conv                                         nchw: ONNX's Conv has its channels on axis 1

The value is followed from the input through operators that leave axes where they are. What no such way ends at (a Flatten, a
MatMul) is judged by the sizes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from genie_onnx.framing import Layout
from genie_onnx.graph.ops import ELEMENTWISE, POOLING
from genie_onnx.graph.query import attribute, dims

TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # Transpose from [N, H, W, C], and to it
PICTURE_CHANNELS = 4  # grey, colour, and one more

_AXES_STAY = ELEMENTWISE | {"Concat", "DequantizeLinear", "Pad", "QuantizeLinear", "Resize", "Slice"}
_CHANNELS_FIRST = POOLING | {
    *("BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "DepthToSpace", "GridSample", "GroupNormalization"),
    *("InstanceNormalization", "LRN", "QLinearConv", "SpaceToDepth"),
}


def image_layout(model: ir.Model) -> Layout:
    """Return the layout of the one input of a loaded model, which need not be normalised; nchw where it has no four axes."""
    sizes = dims(model.graph.inputs[0]) if len(model.graph.inputs) == 1 else None
    if sizes is None or len(sizes) != 4:
        return "nchw"
    reader = first_reader(model)
    if reader is not None and reader.op_type == "Transpose" and attribute(reader, "perm", ()) == TO_FIRST:
        # A spectrogram [N, 1, T, F] whose frequencies become the channels is a picture of one channel all the same
        return "nchw" if _few(sizes[1]) and not _few(sizes[3]) else "nhwc"
    return "nchw" if reader is not None else likely_layout(sizes)


def file_layout(path: Path) -> Layout:
    """Return the layout of the one input of an ONNX file, which may hold anything; its weights are not read."""
    return image_layout(ir.from_proto(onnx.load(path, load_external_data=False)))


def likely_layout(sizes: Sequence[int | None]) -> Layout:
    """Return nhwc where only the last of four `sizes` (None: open) can be the channels of a picture."""
    *places, last = sizes[1:]
    return "nhwc" if _few(last) and all(size is None or size > PICTURE_CHANNELS for size in places) else "nchw"


def first_reader(model: ir.Model) -> ir.Node | None:
    """Return the first node that moves axes of the image or is particular about them; None where no node does and is known."""
    followed = set(model.graph.inputs[:1])
    for node in model.graph:
        if node.domain not in ("", "ai.onnx", "com.microsoft") or not any(v in followed for v in node.inputs if v is not None):
            continue
        if node.op_type in _CHANNELS_FIRST or node.op_type == "Transpose":
            return node
        if node.op_type in _AXES_STAY:
            followed.update(node.outputs)
    return None


def sample_sizes(model: ir.Model, layout: Layout) -> tuple[int | None, int | None, int | None]:
    """Return C, H, W of the input of a model with four axes, None for each that is open."""
    sizes = dims(model.graph.inputs[0])
    assert sizes is not None
    first, second, last = sizes[1:]
    return (first, second, last) if layout == "nchw" else (last, first, second)


def laid_out(shape: tuple[int, int, int], layout: Layout) -> tuple[int, int, int]:
    """Return C, H, W in the order that the model has them in."""
    channels, height, width = shape
    return shape if layout == "nchw" else (height, width, channels)


def as_fed(images: npt.NDArray[np.float32], layout: Layout) -> npt.NDArray[np.float32]:
    """Return `images` [..., C, H, W] contiguous, as a model of this layout is fed."""
    return np.ascontiguousarray(images if layout == "nchw" else np.moveaxis(images, -3, -1))


def _few(size: int | None) -> bool:
    return size is not None and 1 <= size <= PICTURE_CHANNELS
