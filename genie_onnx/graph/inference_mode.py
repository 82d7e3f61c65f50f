"""What an exporter left behind from training is put into inference form.

    BatchNormalization(training_mode=1; Y, mean', var', ...) -> BatchNormalization(Y)   moments of the file, not of the batch
    Dropout(x, ratio, training_mode)                         -> Dropout(x)                  y = x; `bypass` then removes it

A model that reads the extra outputs is left alone; `check` names it.
"""

from __future__ import annotations

import onnx_ir as ir


def inference_mode(model: ir.Model) -> ir.Model:
    """Rewrite in place and return `model`."""
    for node in model.graph:
        if node.domain != "" or any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
            continue
        if node.op_type == "BatchNormalization":
            node.attributes.pop("training_mode", None)
            node.resize_outputs(1)
        elif node.op_type == "Dropout":
            node.resize_inputs(1)
            node.resize_outputs(1)
    return model
