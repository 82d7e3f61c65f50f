"""`compare` of a file whose channels are equalised: at its scale, and what its ceilings cut off is its error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from equalised_nets import MOBILE, RESIDUAL, config, images, network
from onnx_models import image, parse

import genie_onnx
from genie_onnx import LayerBits, ModelError, PlacementConfig, graph
from genie_onnx.comparison import comparison
from genie_onnx.graph.channel_scales import Factors
from genie_onnx.validate import Session, layerwise, run
from genie_onnx.validate.compare import sqnr
from genie_onnx.validate.layerwise.pairing import Pairing
from genie_onnx.validate.layerwise.switch import add_switches


@pytest.fixture(scope="module", params=[MOBILE, RESIDUAL], ids=["mobile", "residual"])
def equalised(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> genie_onnx.Result:
    """A finished run whose channels are scaled, at 8 bits but for the weights of one layer; its model and images beside it."""
    folder = tmp_path_factory.mktemp("equalised")
    onnx.save(network(request.param), folder / "net.onnx")
    np.save(folder / "images.npy", images())
    bits = (LayerBits(pattern="node_e", wbits=2, abits=4),)
    placement = PlacementConfig(wbits=8, abits=4, setting="qdrop", layer_bits=bits)
    return genie_onnx.quantize(
        folder / "net.onnx", folder / "p.onnx", config=config(placement=placement), data=folder / "images.npy"
    )


@dataclass(frozen=True)
class Pieces:
    """What `compare` works with."""

    user: ir.Model
    file: ir.Model
    reference: ir.Model  # at the scale of the file
    network: ir.Model  # ... and with the ceilings of the float model
    factors: dict[str, Factors]
    pairing: Pairing
    owner: dict[str, str]


def pieces(run: genie_onnx.Result) -> Pieces:
    """The steps of `compare` up to the network with switches."""
    user, file = graph.load(run.output.with_name("net.onnx")), graph.load(run.output)
    reference, factors = comparison._at_scale(comparison._reference(user, file, "nchw"), file)
    pairing = layerwise.pair(reference, layerwise.QdqGraph(file))
    owner = layerwise.owners(comparison._blocks(reference, file))
    network, pairing, owner = layerwise.lifted(reference, pairing, owner, factors)
    return Pieces(user, file, reference, network, factors, pairing, owner)


def test_of_an_equalised_file_all_switches_on_is_the_file_and_all_off_the_float_model(equalised: genie_onnx.Result) -> None:
    found = pieces(equalised)
    assert len(found.factors) >= 4
    feeds = {"image": 2 * images(16, seed=3)}  # beyond the ceilings
    model, switches = add_switches(found.network, found.pairing, found.owner)
    session = Session(model)
    exact, quantized = run(found.user, feeds), run(found.file, feeds, optimise=False)
    for on, expected in ((False, exact), (True, quantized)):
        outputs = session({**feeds, **{name: np.array(on) for name in switches.values()}})
        np.testing.assert_allclose(outputs["scores"], expected["scores"], rtol=1e-4, atol=1e-4, err_msg=str(on))
    assert np.abs(exact["scores"] - quantized["scores"]).max() > 0.01


def test_values_of_an_equalised_file_are_those_of_the_float_model_times_their_factors(equalised: genie_onnx.Result) -> None:
    found, feeds = pieces(equalised), {"image": 2 * images(16, seed=3)}
    floats = run(graph.fold_batchnorm(graph.check(found.user)), feeds, list(found.factors))
    ours = run(found.network, feeds, list(found.factors))
    for value, e in found.factors.items():
        expected = floats[value] * e.reshape(-1, *(1,) * (floats[value].ndim - 2))
        np.testing.assert_allclose(ours[value], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max(), err_msg=value)


def test_what_a_ceiling_cuts_off_is_laid_to_the_block_that_has_the_clip() -> None:
    """A file without a rounded value but the weights of its last layer: all other noise is that of the ceiling."""
    text = "a = Conv(x, w1) r = Clip(a, low, high) b = Conv(r, w2) m = GlobalAveragePool(b) n = Flatten(m) y = Gemm(n, w3)"
    proto = parse(
        f"g (float[N,3,8,8] x, float[4,3,3,3] w1, float[6,4,1,1] w2, float[6,5] w3) => (float[N,5] y) "
        f"<float low = {{0}}, float high = {{1}}> {{ {text} }}"
    )
    reference = graph.check(graph.load(proto))
    nodes = {str(node.outputs[0].name): str(node.name) for node in reference.graph}
    found = graph.channels(reference, [nodes["a"], nodes["b"], nodes["y"]])
    numbers = np.ones(1 + max(int(ids.max()) for ids in found.of.values()), np.float32)
    numbers[found.of["r"]] = [2, 1, 3, 4]
    cut = graph.scaled(reference, found, numbers)
    factors = {v: e for v in found.of if (e := graph.factors_of(found, v, numbers)) is not None}
    pairing = Pairing(values={}, constants=(), float_reads=frozenset(), float_outputs=frozenset({"y"}), notices=())
    owner = {node: "first" if value in ("a", "r") else "rest" for value, node in nodes.items()}
    network, pairing, owner = layerwise.lifted(cut, pairing, owner, factors)
    x = image(8, 3, 8, 8)
    exact, ours = (run(model, {"x": x})["y"] for model in (reference, cut))
    np.testing.assert_allclose(run(network, {"x": x})["y"], exact, atol=1e-4)
    effect = layerwise.effects(network, pairing, owner, x, lambda done, runs: None)
    assert effect.blocks["first"].share == 1
    assert effect.blocks["first"].alone.sqnr_db == pytest.approx(sqnr(exact, ours), abs=0.01)
    assert effect.blocks.keys() == {"first"}


def test_the_damaged_block_of_an_equalised_file_is_named(equalised: genie_onnx.Result) -> None:
    folder = equalised.output.parent
    np.save(folder / "others.npy", images(32, seed=8))
    found = genie_onnx.compare(folder / "net.onnx", equalised.output, data=folder / "others.npy", samples=32)
    assert found.notices == ()
    assert "node_e" in found.blocks[0].nodes
    assert found.blocks[0].wbits == 2
    assert (found.weights[0].nodes, found.weights[0].bits) == (("node_e",), 2)
    assert all(weight.sqnr_db > 20 for weight in found.weights[1:])  # 8 bits that make good for noise: not e times another weight
    assert all(value.rounding_db > 8 for value in found.values)
    assert found.diagnosis[0].block in ("", found.blocks[0].block)


def test_the_report_of_an_equalised_run_compares_at_one_scale(equalised: genie_onnx.Result) -> None:
    found = json.loads((equalised.run_dir / "comparison.json").read_text())
    assert found["notices"] == []
    assert min(weight["sqnr_db"] for weight in found["weights"] if weight["bits"] == 8) > 20
    for value in found["values"]:  # before rounding and after
        assert value["high"] == pytest.approx(value["grid_high"], rel=3), value["value"]
    page = genie_onnx.html_report(equalised.run_dir, equalised.output.with_name("report.html"), effects=True)
    assert page.is_file()
    again = json.loads((equalised.run_dir / "comparison.json").read_text())
    assert sum(block["share"] for block in again["blocks"]) == pytest.approx(1)


def test_factors_of_another_model_or_damaged_ones_are_refused(equalised: genie_onnx.Result, tmp_path: Path) -> None:
    file = onnx.load(equalised.output)
    entry = next(prop for prop in file.metadata_props if prop.key == "genie_onnx.equalisation")
    for text in ("[", '{"a": "*"}', '{"stranger": "AAAAQA=="}', '{"scores": "AAAAQAAAAEAAAABAAAAAQAAAAEA="}'):
        entry.value = text
        onnx.save(file, tmp_path / "p.onnx")
        with pytest.raises(ModelError, match="give the float model"):
            genie_onnx.compare(equalised.output.with_name("net.onnx"), tmp_path / "p.onnx", samples=2)
