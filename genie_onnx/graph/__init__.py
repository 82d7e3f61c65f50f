"""ONNX graphs: read, check, bring to one form, ask about. Works on onnx_ir models; knows neither torch nor onnxruntime."""

from genie_onnx.graph.batchnorms import BatchNorm, batchnorms, deployed_statistics
from genie_onnx.graph.beside_image import way_out
from genie_onnx.graph.channel_scales import Channels, channels, factors_of, scaled
from genie_onnx.graph.check import check, problems
from genie_onnx.graph.chosen_order import in_chosen_order
from genie_onnx.graph.class_scores import class_scores, may_have_classes
from genie_onnx.graph.coverage import Coverage, coverage
from genie_onnx.graph.fix_inputs import fix_inputs
from genie_onnx.graph.fold_batchnorm import fold_batchnorm
from genie_onnx.graph.free_batch import batch_obstacle
from genie_onnx.graph.full_axes import without_axes
from genie_onnx.graph.image_layout import as_fed, file_layout, image_layout, laid_out, sample_sizes
from genie_onnx.graph.load import load
from genie_onnx.graph.match_batchnorm import borrow
from genie_onnx.graph.normalise import normalise
from genie_onnx.graph.own_biases import with_constants, with_own_biases
from genie_onnx.graph.ranks import name_ranks, set_ranks
from genie_onnx.graph.reference import Reference, graph_reference, state_reference
from genie_onnx.graph.simplify import SIMPLIFIED, simplify
from genie_onnx.graph.widen import widen

__all__ = [
    "SIMPLIFIED",
    "BatchNorm",
    "Channels",
    "Coverage",
    "Reference",
    "as_fed",
    "batch_obstacle",
    "batchnorms",
    "borrow",
    "channels",
    "check",
    "class_scores",
    "coverage",
    "deployed_statistics",
    "factors_of",
    "file_layout",
    "fix_inputs",
    "fold_batchnorm",
    "graph_reference",
    "image_layout",
    "in_chosen_order",
    "laid_out",
    "load",
    "may_have_classes",
    "name_ranks",
    "normalise",
    "problems",
    "sample_sizes",
    "scaled",
    "set_ranks",
    "simplify",
    "state_reference",
    "way_out",
    "widen",
    "with_constants",
    "with_own_biases",
    "without_axes",
]
