"""Random networks, from the file to the verified file: what `properties` states holds for each."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from property import properties
from property.strategies import RandomModel, models

import genie_onnx
from genie_onnx import DistillConfig, PlacementConfig, QuantizeConfig, ReconstructConfig
from genie_onnx.graph import fold_batchnorm, load, normalise
from genie_onnx.grids.own import own_grids_from_json
from genie_onnx.placement import place
from genie_onnx.run.directory import RunDirectory

PLACEMENTS = st.builds(
    PlacementConfig,
    wbits=st.sampled_from([4, 2, 3, 8]),
    abits=st.sampled_from([4, 8, 2]),
    first_last_bits=st.sampled_from([8, 4]),
    setting=st.sampled_from(["brecq", "qdrop"]),
    points=st.sampled_from(["full", "layer-inputs"]),
)
RECONSTRUCT = ReconstructConfig(iterations=2, batch_size=2)


NAMES = st.sampled_from(["portable", "int4", "openvino", "iree"])


def hold(model: RandomModel, placement_config: PlacementConfig, name: str) -> None:
    """Assert every property of one model, quantised for the target `name`."""
    proto = model.proto
    if name == "int4" and (
        proto.opset_import[0].version < 21 or min(placement_config.wbits, placement_config.first_last_bits) > 4
    ):
        name = "portable"  # 4-bit integers came with opset 21
    target = genie_onnx.TARGETS[name]
    properties.every_value_is_imported(proto)
    properties.blocks_are_a_partition(proto)
    config = QuantizeConfig(
        samples=3,
        distill=DistillConfig(iterations=1, refine_iterations=1),
        placement=placement_config,
        reconstruct=RECONSTRUCT,
        target=target,
        device="cpu",
    )
    with tempfile.TemporaryDirectory() as folder:
        result = genie_onnx.quantize(proto, Path(folder) / "out.onnx", config=config)
        assert result.report.parity["ok"]
        file = onnx.load(result.output)
        deploy = fold_batchnorm(normalise(load(proto)))
        own = own_grids_from_json(RunDirectory(result.run_dir).own_grids.read_text(encoding="utf-8"))
        placement = place(deploy, placement_config, target.constraints, own.values)
        codes = properties.codes_are_those_of_the_run(file, deploy, placement, result.run_dir)
        rounded = properties.as_rounded(deploy, placement, result.run_dir)
    properties.file_computes_what_its_codes_say(file, proto, rounded, placement, codes)
    properties.names_are_kept(file, proto, deploy)


@settings(max_examples=5, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(models(), PLACEMENTS, NAMES)
def test_random_networks(model: RandomModel, placement: PlacementConfig, name: str) -> None:
    hold(model, placement, name)


@pytest.mark.slow
@settings(max_examples=200, derandomize=False, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(models(), PLACEMENTS, NAMES)
def test_many_random_networks(model: RandomModel, placement: PlacementConfig, name: str) -> None:
    hold(model, placement, name)
