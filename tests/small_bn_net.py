"""A small network whose BatchNorm statistics were measured on dead leaves: 3x16x16, one strided convolution, two BN layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import torch
import torch.nn.functional as F

from genie_onnx import graph
from genie_onnx.importer import Network, import_graph
from genie_onnx.synthesis import procedural

SHAPE = (3, 16, 16)
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 3, 16, 16] image) => (float[N, 4] scores) {
    a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, w1)
    b = BatchNormalization (a, s1, b1, m1, v1)
    c = Relu (b)
    d = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (c, w2)
    e = BatchNormalization (d, s2, b2, m2, v2)
    f = Relu (e)
    g = GlobalAveragePool (f)
    h = Flatten (g)
    scores = Gemm <transB = 1> (h, w3)
}
"""


def small_bn_net(mean: Sequence[float] = (0, 0, 0), std: Sequence[float] = (1, 1, 1)) -> onnx.ModelProto:
    """The network, as trained on images with `mean` and `std` in its channels."""
    random = torch.Generator().manual_seed(7)
    images = procedural(256, SHAPE, mean=mean, std=std, generator=random)
    tensors = {"w3": torch.randn(4, 16, generator=random)}
    x, channels = images, 3
    for layer, (width, stride) in enumerate([(8, 1), (16, 2)], start=1):
        weight = torch.randn(width, channels, 3, 3, generator=random) / (channels * 9) ** 0.5
        if layer == 1:
            weight /= torch.tensor(std).view(1, -1, 1, 1)
        x = F.conv2d(x, weight, stride=stride, padding=1)
        variance, centre = torch.var_mean(x, (0, 2, 3))
        scale, bias = torch.rand(width, generator=random) + 0.5, 0.2 * torch.randn(width, generator=random)
        tensors |= {f"w{layer}": weight, f"s{layer}": scale, f"b{layer}": bias, f"m{layer}": centre, f"v{layer}": variance}
        x = F.relu(F.batch_norm(x, centre, variance, scale, bias))
        channels = width
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(t.numpy().astype(np.float32), n) for n, t in tensors.items())
    return model


def imported(model: onnx.ModelProto) -> tuple[Network, tuple[graph.BatchNorm, ...]]:
    """The network in torch and the census of its statistics."""
    normal = graph.normalise(graph.load(model))
    return import_graph(normal), graph.batchnorms(normal)
