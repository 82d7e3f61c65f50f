"""Resize -> RESIZE_NEAREST_NEIGHBOR or RESIZE_BILINEAR, where one of TFLite's three rules reads the same places as ONNX's.

TFLite     default          x = y in / out           nearest: floor(x)
           half_pixel       x = (y + 1/2) in / out - 1/2      nearest: floor(x + 1/2)
           align_corners    x = y (in - 1) / (out - 1)        nearest: round(x)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from genie_onnx.exporter.litert.desk import NHWC, Desk, RefusedError, Value

Places = npt.NDArray[np.float64]
_RULES = ("default", "half_pixel", "align_corners")
CLOSE = 1e-4  # of a pixel


def resize(desk: Desk, node: onnx.NodeProto) -> None:
    """Write a Resize or Upsample of height and width."""
    source, result = desk.shape(node.input[0]), desk.shape(node.output[0])
    mode = desk.attribute(node, "mode", b"nearest")
    if len(source) != 4 or source[:2] != result[:2]:
        raise RefusedError("it resizes something else than height and width")
    if mode not in (b"nearest", b"linear"):
        raise RefusedError(f"its mode is {mode!r}; nearest and linear are supported")
    nearest = mode == b"nearest"
    pairs = [(source[axis], result[axis], _factor(desk, node, axis)) for axis in (2, 3)]
    onnx_places = [_onnx_places(desk, node, *pair, nearest) for pair in pairs]
    rule = next(
        (
            r
            for r in _RULES
            if all(_agree(r, places, *pair[:2], nearest) for places, pair in zip(onnx_places, pairs, strict=True))
        ),
        None,
    )
    if rule is None:
        raise RefusedError(
            f"TFLite reads other pixels than {desk.attribute(node, 'coordinate_transformation_mode', b'half_pixel')!r} does here"
        )
    value = desk.ordered(desk.read(node.input[0]), NHWC)
    n, c, h, w = result
    kind = "ResizeNearestNeighbor" if nearest else "ResizeBilinear"
    operator = "RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR"
    number = desk.new(f"{node.output[0]}_resized", (n, h, w, c), value.grid)
    size = desk.draft.constant("size", np.asarray([h, w], np.int32))
    options = {"AlignCorners": rule == "align_corners", "HalfPixelCenters": rule == "half_pixel"}
    desk.draft.add(operator, [value.number, size], [number], f"{kind}Options", **options)
    desk.put(node, Value(number, (n, h, w, c), NHWC, value.grid))


def _factor(desk: Desk, node: onnx.NodeProto, axis: int) -> float:
    scales = [desk.constant(name) for name in node.input[1:3] if name]
    known = next((s for s in scales if s is not None and s.size == 4), None)
    source, result = desk.shape(node.input[0]), desk.shape(node.output[0])
    return result[axis] / source[axis] if known is None else float(known[axis])


def _onnx_places(desk: Desk, node: onnx.NodeProto, size: int, wanted: int, factor: float, nearest: bool) -> Places:
    """Return where ONNX reads for each pixel of the result; whole numbers for nearest."""
    y = np.arange(wanted, dtype=np.float64)
    upsample = node.op_type == "Upsample"
    mode = b"asymmetric" if upsample else desk.attribute(node, "coordinate_transformation_mode", b"half_pixel")
    if mode == b"asymmetric":
        x = y / factor
    elif mode in (b"half_pixel", b"pytorch_half_pixel"):
        x = (y + 0.5) / factor - 0.5 if mode == b"half_pixel" or wanted > 1 else y * 0
    elif mode == b"align_corners":
        x = y * (size - 1) / (wanted - 1) if wanted > 1 else y * 0
    else:
        raise RefusedError(f"its coordinates are {mode!r}")
    if not nearest:
        return np.clip(x, 0, size - 1)
    way = b"floor" if upsample else desk.attribute(node, "nearest_mode", b"round_prefer_floor")
    rounded = {
        b"floor": np.floor(x),
        b"ceil": np.ceil(x),
        b"round_prefer_floor": np.ceil(x - 0.5),
        b"round_prefer_ceil": np.floor(x + 0.5),
    }[way]
    return np.clip(rounded, 0, size - 1)


def _agree(rule: str, places: Places, size: int, wanted: int, nearest: bool) -> bool:
    y = np.arange(wanted, dtype=np.float64)
    if rule == "align_corners":
        x = y * (size - 1) / (wanted - 1) if wanted > 1 else y * 0
        x = np.floor(x + 0.5) if nearest else x
    elif rule == "half_pixel":
        x = (y + 0.5) * size / wanted - 0.5
        x = np.floor(x + 0.5) if nearest else x
    else:
        x = y * size / wanted
        x = np.floor(x) if nearest else x
    return bool(np.abs(np.clip(x, 0, size - 1) - places).max() <= (0 if nearest else CLOSE))
