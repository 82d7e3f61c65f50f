"""Names for the values and nodes that quantisation adds.

For a value or initializer `v` these are, as far as they are free (else with _1, _2, ... behind):

    v_scale, v_zero_point     the grid (one pair for all values of a group, named after the group)
    v_rounded                 QuantizeLinear's output where an integer Clip follows it
    v_quantized               the codes of v: what is stored, or what the Clip (or else QuantizeLinear) yields
    v_dequantized             what the consumers of v read (a weight keeps its own name here)
"""

from __future__ import annotations

import onnx_ir as ir


class Names:
    """Hands out names that no value or node of `graph` (subgraphs included) has."""

    def __init__(self, graph: ir.Graph) -> None:
        self._taken: set[str | None] = {v.name for v in graph.inputs} | set(graph.initializers)
        for node in graph.all_nodes():
            self._taken.add(node.name)
            self._taken.update(v.name for v in (*node.inputs, *node.outputs) if v is not None)

    def fresh(self, wish: str) -> str:
        """Return `wish`, or the first of `wish`_1, `wish`_2, ... that is free; it is taken from then on."""
        name, count = wish, 0
        while name in self._taken:
            count += 1
            name = f"{wish}_{count}"
        self._taken.add(name)
        return name
