"""Pieces of a block have one layer each, and one after the other compute what the block does."""

from __future__ import annotations

import pytest
import torch
from graphs import Net, graph
from token_nets import ATTENTION

from genie_onnx.blocks import partition, pieces
from genie_onnx.graph import query
from genie_onnx.importer import import_graph


def branches() -> Net:
    """A residual block with a projection, an inception block whose branches are of different lengths, and a head."""
    net = Net(channels=3, size=16)
    x = net.conv("stem", "x", 4, 3)
    a = net.conv("b", net.conv("a", x, 8, 3, stride=2), 8, 3, act="")
    x = net.op("Relu", net.op("Add", a, net.conv("shortcut", x, 8, stride=2, act="")))
    left = net.conv("l3", net.conv("l2", net.conv("l1", x, 4), 4, 3), 4, 3)
    x = net.concat(left, net.conv("r1", x, 4), net.conv("m1", net.maxpool(x, 3, 1), 4))
    net.gemm("head", net.op("GlobalAveragePool", x), 5)
    return net


GRAPHS = {
    "branches": lambda: branches().model("head"),
    "attention": lambda: graph(ATTENTION),
    "nodes before the first layer": lambda: graph(
        "g (float[N,3,8,8] x, float[4,3,3,3] w1, float[4,4,3,3] w2) => (float[] y)"
        "{ s = Sigmoid(x) a = Conv(s, w1) r = Relu(a) c = Conv(r, w2) y = Tanh(c) }"
    ),
}
CASES = pytest.mark.parametrize("case", GRAPHS)


@CASES
def test_each_has_one_layer_and_all_make_up_the_block(case: str) -> None:
    model = GRAPHS[case]()
    blocks = partition(model)
    found = pieces(model, blocks)
    weighted = {str(node.name) for node in query.weighted_nodes(model)}
    assert found.keys() == {block.name for block in blocks}
    for block in blocks:
        parts = found[block.name]
        layers = [weighted.intersection(part.nodes) for part in parts]
        assert all(len(own) == 1 for own in layers) or (len(parts) == 1 and not layers[0])
        assert tuple(node for part in parts for node in part.nodes) == block.nodes
        assert {w for part in parts for w in part.weights} == set(block.weights)
        assert len({part.name for part in parts}) == len(parts)
    assert max(len(parts) for parts in found.values()) > 1


@CASES
def test_each_reads_only_what_the_block_reads_or_earlier_pieces_make(case: str) -> None:
    model = GRAPHS[case]()
    for block in partition(model):
        known = set(block.inputs)
        parts = pieces(model, [block])[block.name]
        for part in parts:
            assert set(part.inputs) <= known
            known.update(part.outputs)
        assert set(block.outputs) <= known
        assert {v for part in parts for v in part.channels_last} >= block.channels_last


@CASES
def test_one_after_the_other_they_compute_what_the_block_does(case: str) -> None:
    model = GRAPHS[case]()
    network = import_graph(model)
    size = [d or 2 for d in query.input_shape(model)]
    whole = {network.inputs[0]: torch.randn(size, generator=torch.Generator().manual_seed(0))}
    by_pieces = dict(whole)
    blocks = partition(model)
    found = pieces(model, blocks)
    for block in blocks:
        for values, parts in ((whole, (block,)), (by_pieces, found[block.name])):
            for part in parts:
                values.update(network.extract(part.inputs, part.outputs)({v: values[v] for v in part.inputs}))
        for output in block.outputs:
            assert torch.equal(by_pieces[output], whole[output]), output


def test_a_block_of_one_layer_is_its_own_piece() -> None:
    model = branches().model("head")
    blocks = partition(model)
    found = pieces(model, blocks)
    alone = [block for block in blocks if len(block.weights) <= 1]
    assert alone
    assert all(found[block.name] == (block,) for block in alone)
