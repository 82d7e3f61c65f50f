"""Which values are rounded, to how many bits, and which of them share one grid. Decided once, by value name.

Simulation and export both read the `Placement`, so they cannot disagree.
"""

from genie_onnx.placement.control import resolve
from genie_onnx.placement.demands import REDUCED
from genie_onnx.placement.explain import Row, explain, float_operators
from genie_onnx.placement.groups import joined
from genie_onnx.placement.integer_layers import integer_layers
from genie_onnx.placement.joins import joins, layers_behind
from genie_onnx.placement.place import place
from genie_onnx.placement.selections import hand_out_floats, selections
from genie_onnx.placement.specs import ActivationSpec, Placement, WeightSpec
from genie_onnx.placement.wide import layers_beside

__all__ = [
    "REDUCED",
    "ActivationSpec",
    "Placement",
    "Row",
    "WeightSpec",
    "explain",
    "float_operators",
    "hand_out_floats",
    "integer_layers",
    "joined",
    "joins",
    "layers_behind",
    "layers_beside",
    "place",
    "resolve",
    "selections",
]
