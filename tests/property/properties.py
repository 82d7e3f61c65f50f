"""What holds for every model that can be quantised, whatever network is in it. Each function asserts one thing.

Judged by onnxruntime with its own rewriting switched off and by the simulation of the tests, not by what the package says.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import TensorProto, numpy_helper
from simulation import Codes, simulate

from genie_onnx import graph, reconstruct
from genie_onnx.blocks import partition
from genie_onnx.graph import query
from genie_onnx.importer import import_graph
from genie_onnx.placement import Placement
from genie_onnx.qparams import QParams
from genie_onnx.validate import Session

# Sums of some dozen to some hundred float32 products in another order, through up to thirty layers
FLOAT_ROUNDING = 2e-5
REMOVED = ("Constant", "Identity", "Dropout", "BatchNormalization")  # as nodes of their own; the last where it folds
BIAS_OF_MATMUL = ("Add", "Sum")  # exporter.matmul_bias
SATURATION = ("Relu", "Clip")  # may move into the bounds of the codes


def images(model: onnx.ModelProto, batch: int) -> np.ndarray:
    """Seeded normal numbers of the model's input size."""
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(batch).standard_normal([batch, *shape[1:]]).astype(np.float32)


def close(expected: np.ndarray, found: np.ndarray, what: str) -> None:
    """Asserts equality up to FLOAT_ROUNDING of the largest value."""
    assert expected.shape == found.shape, f"{what}: {found.shape}, expected {expected.shape}"
    error = np.abs(expected.astype(np.float64) - found).max(initial=0)
    assert error <= FLOAT_ROUNDING * max(np.abs(expected).max(initial=0), 1e-3), f"{what} is off by {error:.3g}"


def every_value_is_imported(model: onnx.ModelProto) -> None:
    """Torch computes every value as onnxruntime does, with BatchNormalization kept and folded, at batch 1 and 3.

    Values that normalisation keeps are those of the file itself, sample by sample where its batch is fixed.
    """
    user = graph.load(model)
    graph.check(user)
    normal = graph.normalise(user)
    of_file = float_values(model)
    for view, which in ((normal, "normalised"), (graph.fold_batchnorm(normal), "folded")):
        network = import_graph(view)
        names = [str(v.name) for node in view.graph for v in node.outputs if v.name]
        inner = network.extract(network.inputs, names)
        runtime = Session(ir.to_proto(view), names, optimise=False)
        kept = [name for name in names if name in of_file]
        original = Session(model, kept, optimise=False)
        for batch in (1, 3):
            x = images(model, batch)
            expected = runtime({"image": x})
            found = inner({"image": torch.from_numpy(x)})
            for name in names:
                close(expected[name], found[name].numpy(), f"'{name}' ({which}, batch {batch})")
            for name, array in original({"image": x}).items():
                close(array, expected[name], f"'{name}' of the file ({which}, batch {batch})")


def float_values(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Every float value that nodes compute, constants not counted, with its node."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    return {name: node for node in nodes for name in node.output if types.get(name) == TensorProto.FLOAT}


def deployed(model: onnx.ModelProto) -> ir.Model:
    """The graph that is quantised."""
    return graph.fold_batchnorm(graph.normalise(graph.load(model)))


def blocks_are_a_partition(model: onnx.ModelProto) -> None:
    """Every weight and node is in one block, and what a block reads comes from the image or from blocks before it."""
    deploy = deployed(model)
    blocks = partition(deploy)
    listed = [node for block in blocks for node in block.nodes]
    assert sorted(listed) == sorted(str(node.name) for node in deploy.graph)
    owner = {node: block.name for block in blocks for node in block.nodes}
    for node in query.weighted_nodes(deploy):
        owners = [block.name for block in blocks if query.weight(node).name in block.weights and node.name in block.nodes]
        assert owners == [owner[str(node.name)]]
    known = {str(v.name) for v in deploy.graph.inputs}
    for block in blocks:
        assert known.issuperset(block.inputs), f"block '{block.name}' reads {set(block.inputs) - known} before it is computed"
        known.update(block.outputs)
    assert known.issuperset(str(v.name) for v in deploy.graph.outputs)


def codes_are_those_of_the_run(file: onnx.ModelProto, deploy: ir.Model, placement: Placement, run: Path) -> Codes:
    """Every weighted node multiplies by the integers that the run directory has for its weight, within the bits asked for.

    Returns the codes of the run, with the grids of activations as the file has them.
    """
    codes = Codes()
    for part in sorted((run / "codes").glob("*.safetensors")):
        block = reconstruct.load(part)
        codes.weights.update(block.weights)
        codes.activations.update(block.activations)
    assert set(codes.weights) == {spec.value for spec in placement.weights}
    constants = {t.name: numpy_helper.to_array(t) for t in file.graph.initializer}
    producers = {name: node for node in file.graph.node for name in node.output}
    nodes = {node.name: node for node in file.graph.node}
    for spec in placement.weights:
        expected = codes.weights[spec.value]
        for name in spec.nodes:
            node = producers[nodes[name].input[1]]
            assert node.op_type == "DequantizeLinear", f"'{name}' reads its weight from {node.op_type}"
            stored, scale, zero_point = (constants[i] for i in node.input)
            shape = [1] * stored.ndim
            shape[spec.axis] = -1
            centred = stored.astype(np.int64) - zero_point.astype(np.int64).reshape(shape)
            assert np.array_equal(centred, expected.centred()), f"codes of '{spec.value}'"
            assert np.array_equal(scale, expected.qparams.scale), f"scales of '{spec.value}'"
            assert expected.codes.min() >= 0
            assert expected.codes.max() < 2**spec.bits
    for group in placement.activations:
        for value in group.values:
            assert_same_grid(file, value, group.name, group.bits, codes, constants)
    assert {w.name for w in query.weighted_nodes(deploy)} == {n for w in placement.weights for n in w.nodes} | set(
        placement.float_nodes
    )
    return codes


def assert_same_grid(
    file: onnx.ModelProto, value: str, group: str, bits: int, codes: Codes, constants: dict[str, np.ndarray]
) -> None:
    """All values of a group are rounded on one grid; what the run directory does not have is taken from the file."""
    tables = {entry.key: entry.value for entry in file.metadata_props}
    tensor = json.loads(tables["genie_onnx.activations"])[value]["codes"]
    readers = [node for node in file.graph.node if tensor in node.input]
    assert [node.op_type for node in readers] == ["DequantizeLinear"]
    scale, zero_point = (constants[name] for name in readers[0].input[1:])
    found = QParams(bits=bits, scale=scale, zero_point=zero_point.astype(np.int64))
    expected = codes.activations.setdefault(group, found)
    assert (found.scale, found.zero_point) == (expected.scale, expected.zero_point), f"grid of '{value}'"


def as_rounded(deploy: ir.Model, placement: Placement, run: Path) -> ir.Model:
    """The graph with the biases that the run moved and the channels that it scaled."""
    layers = [node for spec in placement.weights for node in spec.nodes]
    deploy = graph.with_own_biases(deploy, layers)
    factors = {v: np.array(own, np.float32) for v, own in json.loads((run / "equalisation.json").read_text()).items()}
    found = graph.channels(deploy, layers)
    numbers = np.ones(1 + max((int(ids.max(initial=0)) for ids in found.of.values()), default=0), np.float32)
    for value, own in factors.items():
        numbers[found.of[value]] = own
    biases: dict[str, np.ndarray] = {}
    for part in (run / "codes").glob("*.safetensors"):
        biases |= reconstruct.load(part).biases
    return graph.with_constants(graph.scaled(deploy, found, numbers), biases)


def file_computes_what_its_codes_say(
    file: onnx.ModelProto, model: onnx.ModelProto, deploy: ir.Model, placement: Placement, codes: Codes
) -> None:
    """onnxruntime, node by node, gets the outputs of the simulation, and no activation has more than its bits."""
    x = images(model, 2)
    expected = simulate(deploy, placement, codes, {"image": x})
    tables = {entry.key: entry.value for entry in file.metadata_props}
    tensors = {value: entry["codes"] for value, entry in json.loads(tables["genie_onnx.activations"]).items()}
    found = Session(file, [*expected.outputs, *tensors.values()], optimise=False)({"image": x})
    for spec in placement.activations:
        for value in spec.values:
            stored = found[tensors[value]].astype(np.int64)
            assert stored.max(initial=0) < 2**spec.bits, f"'{value}' has codes up to {stored.max()} at {spec.bits} bits"
            assert np.array_equal(stored, expected.activations[value].codes), f"codes of '{value}'"
    for name, array in expected.outputs.items():
        close(array, found[name], f"output '{name}'")


def names_are_kept(file: onnx.ModelProto, model: onnx.ModelProto, deploy: ir.Model) -> None:
    """Inputs and outputs are the user's, and so are the names of nodes and of the values that they compute."""
    assert [v.SerializeToString() for v in file.graph.input] == [model.graph.input[0].SerializeToString()]
    assert [v.SerializeToString() for v in file.graph.output] == [v.SerializeToString() for v in model.graph.output]
    nodes = {node.name: node for node in file.graph.node}
    written = {name for node in file.graph.node for name in node.output}
    merged = {name for node in model.graph.node if node.op_type in REMOVED for name in (node.input[:1] or node.output)}
    of_deploy = {str(v.name) for node in deploy.graph for v in node.outputs}
    for value, node in float_values(model).items():
        if node.op_type in REMOVED:
            continue
        assert value in of_deploy or value in merged, f"'{value}' of the file is gone"
        if value not in written:
            assert value in merged or node.op_type in SATURATION, f"'{value}' is gone"
        if node.name and node.op_type not in SATURATION:
            found = nodes[node.name].op_type
            assert found == node.op_type or (node.op_type, found) == BIAS_OF_MATMUL, f"node '{node.name}' is now {found}"
