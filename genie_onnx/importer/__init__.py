"""ONNX graphs as torch networks: import_graph(normalised graph) -> Network, addressed by ONNX value names throughout."""

from genie_onnx.importer.build import import_graph
from genie_onnx.importer.conv import Conv, Convolution, ConvTranspose
from genie_onnx.importer.linear import Gemm, MatMul
from genie_onnx.importer.network import Network
from genie_onnx.importer.norm import BatchNormalization

__all__ = ["BatchNormalization", "Conv", "ConvTranspose", "Convolution", "Gemm", "MatMul", "Network", "import_graph"]
