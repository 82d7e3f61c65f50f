"""ONNX graphs: read, check, bring to one form, ask about. Works on onnx_ir models; knows neither torch nor onnxruntime."""

from genie_onnx.graph.batchnorms import BatchNorm, batchnorms
from genie_onnx.graph.check import check, problems
from genie_onnx.graph.fold_batchnorm import fold_batchnorm
from genie_onnx.graph.free_batch import batch_obstacle
from genie_onnx.graph.load import load
from genie_onnx.graph.normalise import normalise

__all__ = ["BatchNorm", "batch_obstacle", "batchnorms", "check", "fold_batchnorm", "load", "normalise", "problems"]
