"""Where the image input has its channels: from what the graph does with it, else from its sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import raw_graph

from genie_onnx.errors import ModelError
from genie_onnx.graph import as_fed, check, file_layout, image_layout, laid_out, problems, sample_sizes

TURNED = "t = Transpose <perm = [0, 3, 1, 2]> (x) y = Conv (t, w)"
# sizes of the input, channels of the convolution, nodes; the layout
CASES = {
    "Transpose first": ("N, 8, 9, 3", 3, TURNED, "nhwc"),
    "behind arithmetic": (
        "N, 8, 9, 3",
        3,
        "m = Mul (x, x) a = Add (m, x) t = Transpose <perm = [0, 3, 1, 2]> (a) y = Conv (t, w)",
        "nhwc",
    ),
    "behind a Cast and an Identity": (
        "N, 8, 9, 3",
        3,
        "i = Identity (x) c = Cast <to = 1> (i) t = Transpose <perm = [0, 3, 1, 2]> (c) y = Conv (t, w)",
        "nhwc",
    ),
    "behind rounding": (
        "N, 8, 9, 3",
        3,
        "s = Constant <value = float {0.1}> () q = QuantizeLinear (x, s) d = DequantizeLinear (q, s) "
        "t = Transpose <perm = [0, 3, 1, 2]> (d) y = Conv (t, w)",
        "nhwc",
    ),
    "open sizes": ("N, H, W, 3", 3, TURNED, "nhwc"),
    "grey": ("N, 8, 9, 1", 1, TURNED, "nhwc"),
    "three of everything, turned": ("N, 3, 3, 3", 3, TURNED, "nhwc"),
    "three of everything, read as it is": ("N, 3, 3, 3", 3, "y = Conv (x, w)", "nchw"),
    "features, three wide": ("N, 64, 3, 3", 64, "y = Conv (x, w)", "nchw"),
    "a strip of 64 rows, turned": ("N, 64, 3, 3", 3, TURNED, "nhwc"),
    "features, turned": ("N, 8, 9, 64", 64, TURNED, "nhwc"),
    "frequencies of a spectrogram become channels": ("N, 1, 30, 16", 16, TURNED, "nchw"),
    "turned to be last": (
        "N, 3, 8, 8",
        3,
        "l = Transpose <perm = [0, 2, 3, 1]> (x) t = Transpose <perm = [0, 3, 1, 2]> (l) y = Conv (t, w)",
        "nchw",
    ),
    "pooled": ("N, 8, 9, 3", 8, "y = MaxPool <kernel_shape = [2, 2]> (x)", "nchw"),
    "flattened picture": ("N, 8, 9, 3", 3, "y = Flatten (x)", "nhwc"),
    "flattened picture, channels first": ("N, 3, 8, 9", 3, "y = Flatten (x)", "nchw"),
    "flattened features": ("N, 64, 3, 3", 3, "y = Flatten (x)", "nchw"),
    "flattened, all few": ("N, 3, 4, 3", 3, "y = Flatten (x)", "nchw"),
}


@pytest.mark.parametrize("case", CASES)
def test_layout(case: str, tmp_path: Path) -> None:
    sizes, channels, nodes, layout = CASES[case]
    model = raw_graph(f"net (float[{sizes}] x, float[2, {channels}, 1, 1] w) => (float[] y) {{ {nodes} }}")
    assert image_layout(model) == layout
    onnx.save(onnx.shape_inference.infer_shapes(ir.to_proto(model)), tmp_path / "m.onnx")
    assert file_layout(tmp_path / "m.onnx") == layout


def test_sizes_and_samples_follow_the_layout() -> None:
    model = raw_graph(f"net (float[N, 8, W, 3] x, float[2, 3, 1, 1] w) => (float[] y) {{ {TURNED} }}")
    assert sample_sizes(model, "nhwc") == (3, 8, None)
    assert sample_sizes(model, "nchw") == (8, None, 3)
    assert (laid_out((3, 8, 9), "nhwc"), laid_out((3, 8, 9), "nchw")) == ((8, 9, 3), (3, 8, 9))
    images = np.arange(2 * 3 * 8 * 9, dtype=np.float32).reshape(2, 3, 8, 9)
    fed = as_fed(images, "nhwc")
    assert fed.shape == (2, 8, 9, 3)
    assert fed.flags.c_contiguous
    assert fed[1, 5, 7, 2] == images[1, 2, 5, 7]
    assert as_fed(images, "nchw") is images


def test_a_layout_that_cannot_be_is_refused() -> None:
    """What reads axis 1 as channels cannot be told otherwise; where axes are moved, the user knows."""
    plain = raw_graph("net (float[N, 3, 8, 8] x, float[2, 3, 1, 1] w) => (float[] y) { r = Relu (x) y = Conv (r, w) }")
    assert problems(plain) == []
    with pytest.raises(ModelError, match="has its channels on axis 1, as Conv 'y' reads it; --layout nhwc is not possible"):
        check(plain, "nhwc")
    check(raw_graph(f"net (float[N, 1, 30, 16] x, float[2, 16, 1, 1] w) => (float[] y) {{ {TURNED} }}"), "nhwc")
