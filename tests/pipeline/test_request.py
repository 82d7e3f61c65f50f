"""What is asked for is one value: written beside a run, read back, and the same for every function that takes it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import onnx
import pytest
from small_bn_net import small_bn_net

import genie_onnx
from genie_onnx.config import PlacementConfig, QuantizeConfig
from genie_onnx.framing import Framing
from genie_onnx.pipeline.planning import planned
from genie_onnx.pipeline.request import Request, request_from
from genie_onnx.targets import TARGETS

CONFIG = QuantizeConfig(
    placement=PlacementConfig(wbits=3, abits=8),
    target=TARGETS["vitis"],
    mean=(0.1, 0.2, 0.3),
    std=(0.5,) * 3,
    channel_order="bgr",
    framing=Framing(resize=(40,)),
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(small_bn_net(), path)
    return path


def test_what_is_written_beside_a_run_is_read_back(model: Path) -> None:
    asked = Request(model=model, config=CONFIG, input_size=(8, 8), set_inputs={"scale": [1.0, 0.5]}, command="genie-onnx ...")
    source = json.loads(json.dumps(asked.source()))
    assert source["model"] == str(model)
    found = request_from(source, model)
    assert found == dataclasses.replace(asked, command=None)
    moved = request_from(source, model.with_name("elsewhere.onnx"))
    assert moved == dataclasses.replace(found, model=model.with_name("elsewhere.onnx"))


def test_a_model_in_memory_has_no_path() -> None:
    assert Request(model=small_bn_net()).source()["model"] is None


@pytest.mark.parametrize("lacking", ["config", "input_size", "set_inputs"])
def test_what_lacks_a_part_is_no_request(model: Path, lacking: str) -> None:
    source = Request(model=model).source()
    del source[lacking]
    with pytest.raises(KeyError, match=lacking):
        request_from(source, model)


def test_functions_ask_for_the_same(model: Path) -> None:
    """`plan` and `inspect` prepare the model as the request does."""
    request = Request(model=model, config=CONFIG)
    prepared = request.prepared()
    todo = genie_onnx.plan(model, config=CONFIG)
    assert planned(request).output == todo.output == model.with_suffix(".quant.onnx")
    assert (todo.prepared.digest, todo.prepared.placement) == (prepared.digest, prepared.placement)
    shown = genie_onnx.inspect(model, config=CONFIG).activations
    placed = {(spec.name, spec.bits) for spec in prepared.placement.activations}
    assert placed <= {(value.name, value.bits) for value in shown}  # which has the values that share a grid, too


def test_functions_hand_everything_on(model: Path, tmp_path: Path) -> None:
    """Each argument that cannot be used is refused, whoever is given it."""
    for ask in (
        genie_onnx.plan,
        genie_onnx.quantize,
        genie_onnx.inspect,
        lambda m, **more: genie_onnx.distill(m, tmp_path / "d", **more),
    ):
        with pytest.raises(genie_onnx.ConfigError, match="nothing to borrow"):
            ask(model, bn_from=model)
        with pytest.raises(genie_onnx.ConfigError, match="contradicts"):
            ask(model, input_size=(99, 99))
        with pytest.raises(genie_onnx.InputError, match="scale"):
            ask(model, set_inputs={"scale": [1.0]})
