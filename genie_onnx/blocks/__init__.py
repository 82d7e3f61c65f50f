"""The graph cut into reconstruction blocks: what is optimised together, in which order.

dataflow -> regions (fork ... join) -> runs (no forks left) -> units cut by rule -> blocks
"""

from genie_onnx.blocks.block import Block
from genie_onnx.blocks.partition import doubtful, merge, partition
from genie_onnx.blocks.pieces import pieces

__all__ = ["Block", "doubtful", "merge", "partition", "pieces"]
