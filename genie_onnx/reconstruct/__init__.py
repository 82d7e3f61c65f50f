"""GENIE-M: block-wise reconstruction of a quantised network, learning rounding and step sizes jointly."""

from genie_onnx.reconstruct.calibrate import group_grid
from genie_onnx.reconstruct.codes import Codes, load, save
from genie_onnx.reconstruct.final import settled
from genie_onnx.reconstruct.first_grids import first_grids
from genie_onnx.reconstruct.renorm import Affine, affines, with_affines
from genie_onnx.reconstruct.sensitivity import damage, log_probabilities, sensitivities, value_sensitivities
from genie_onnx.reconstruct.store import ActivationStore
from genie_onnx.reconstruct.twin import Twin
from genie_onnx.reconstruct.walk import BlockResult, learned_blocks, new_weights, reconstruct, simulate

__all__ = [
    "ActivationStore",
    "Affine",
    "BlockResult",
    "Codes",
    "Twin",
    "affines",
    "damage",
    "first_grids",
    "group_grid",
    "learned_blocks",
    "load",
    "log_probabilities",
    "new_weights",
    "reconstruct",
    "save",
    "sensitivities",
    "settled",
    "simulate",
    "value_sensitivities",
    "with_affines",
]
