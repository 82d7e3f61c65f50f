"""Fake quantization as tensor functions: the step-size search, learned rounding h(V), LSQ with QDrop.

Tensors in, tensors out: nothing here knows of a model, a file or a device.
"""

from genie_onnx.quant.fake_quant import fake_quantize, mix, scaled_difference
from genie_onnx.quant.masks import MaskSource
from genie_onnx.quant.ranges import ANY, NORM, Grid, activation_grid, range_grid, weight_grid
from genie_onnx.quant.rounding import Penalty, SoftRounding, harden, inverse_h, soft_weights

__all__ = [
    "ANY",
    "NORM",
    "Grid",
    "MaskSource",
    "Penalty",
    "SoftRounding",
    "activation_grid",
    "fake_quantize",
    "harden",
    "inverse_h",
    "mix",
    "range_grid",
    "scaled_difference",
    "soft_weights",
    "weight_grid",
]
