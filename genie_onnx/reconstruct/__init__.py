"""GENIE-M: block-wise reconstruction of a quantised network, learning rounding and step sizes jointly."""

from genie_onnx.reconstruct.codes import Codes, load, save
from genie_onnx.reconstruct.walk import BlockResult, Progress, learned_blocks, reconstruct, simulate

__all__ = ["BlockResult", "Codes", "Progress", "learned_blocks", "load", "reconstruct", "save", "simulate"]
