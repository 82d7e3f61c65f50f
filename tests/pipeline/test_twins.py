"""The two networks of a run: made images brought to BatchNorm's statistics in both, and one at e times the scale of the other."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from equalised_nets import MOBILE, RESIDUAL, images, network
from small_bn_net import SHAPE, small_bn_net

from genie_onnx import PlacementConfig, QuantizeConfig, graph
from genie_onnx.config import ClosedFormConfig
from genie_onnx.grids.equalisation_choice import equalise
from genie_onnx.images.choice import Choice
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.pipeline.twins import MATCHED_HEADROOM, closed_form_for, headroom, matching_affines, networks
from genie_onnx.preparation.prepare import Prepared, prepare
from genie_onnx.reconstruct import Affine, affines, with_affines
from genie_onnx.reconstruct.renorm import STRONGEST, matching
from genie_onnx.targets import Constraints

CPU = Compute(torch.device("cpu"))
NOISE = torch.randn(32, *SHAPE, generator=torch.Generator().manual_seed(2))  # no dead leaves, on which the net was trained


def values(net: Network, names: list[str], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The values `names` of a network."""
    with torch.no_grad():
        return net.extract(net.inputs, names)({net.inputs[0]: x})


def moments(y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each channel, over samples and positions."""
    std, mean = torch.std_mean(y.double(), [axis for axis in range(y.dim()) if axis != 1], correction=0)
    return mean, std


def test_folded_statistics_are_those_of_a_pass_in_training_mode() -> None:
    """What a folded layer writes has mean beta and deviation |gamma| sqrt(var / (var + eps)), eps included where it is large."""
    proto = small_bn_net()
    names = {f"{kind}{layer}" for kind in "sb" for layer in (1, 2)}
    gamma = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer if t.name in names}
    proto.graph.node[1].attribute.append(onnx.helper.make_attribute("epsilon", 0.05))
    for layer, value in ((1, "a"), (2, "d")):  # statistics of NOISE, one layer after the other
        net = prepare(proto, PlacementConfig()).teacher
        mean, std = moments(values(net, [value], NOISE)[value])
        for tensor in proto.graph.initializer:
            if tensor.name in (f"m{layer}", f"v{layer}"):
                numbers = mean if tensor.name[0] == "m" else std.square()
                tensor.CopyFrom(onnx.numpy_helper.from_array(numbers.float().numpy(), tensor.name))
    prepared = prepare(proto, PlacementConfig())
    known = graph.deployed_statistics(prepared.normalised, prepared.deploy, prepared.statistics)
    assert set(known) == {"b", "e"}
    for value, found in values(prepared.network, list(known), NOISE).items():
        mean, std = moments(found)
        np.testing.assert_allclose(known[value][0], mean, atol=1e-5)
        np.testing.assert_allclose(known[value][1], std, rtol=1e-4)
    np.testing.assert_array_equal(known["b"][0], gamma["b1"])
    assert (known["b"][1] < 0.99 * gamma["s1"]).any()  # eps is not nothing


def test_a_matched_network_has_the_mean_and_deviation_of_batchnorm_at_each_value() -> None:
    prepared = prepare(small_bn_net(), PlacementConfig()).with_own_biases()
    known = graph.deployed_statistics(prepared.normalised, prepared.deploy, prepared.statistics)
    found = matching_affines(prepared, QuantizeConfig(), Choice("procedural", "procedural", ""), NOISE, CPU, lambda step: None)
    assert found.keys() == known.keys()
    before = values(prepared.network, list(known), NOISE)
    net = with_affines(prepared.network, found)
    after = values(net, list(known), NOISE)
    for value, (mean, std) in known.items():
        got = moments(after[value])
        np.testing.assert_allclose(got[0], mean, atol=1e-4, err_msg=value)
        np.testing.assert_allclose(got[1], std, rtol=1e-3, err_msg=value)
        assert np.abs(moments(before[value])[1].numpy() / std - 1).max() > 0.05, "the images had the statistics before"
    whole, deeper = net({net.inputs[0]: NOISE}), values(net, ["f"], NOISE)["f"]
    torch.testing.assert_close(deeper, after["e"].relu())  # what follows reads what was matched
    assert tuple(whole) == prepared.network.outputs
    assert not torch.allclose(whole["scores"], prepared.network({"image": NOISE})["scores"])


def test_the_network_itself_is_left_as_it_was_and_a_matched_output_is_handed_out() -> None:
    prepared = prepare(network(RESIDUAL), PlacementConfig())
    x = torch.from_numpy(images(4))
    before = prepared.network({"image": x})["scores"]
    shift = {"scores": Affine(torch.full((5,), 2.0), torch.ones(5)), "r": Affine(torch.ones(8), torch.ones(8))}
    net = with_affines(prepared.network, shift)
    assert torch.equal(prepared.network({"image": x})["scores"], before)
    inner = with_affines(prepared.network, {"r": shift["r"]})({"image": x})["scores"]
    torch.testing.assert_close(net({"image": x})["scores"], 2 * inner + 1)
    torch.testing.assert_close(values(net, ["r"], x)["r"], values(prepared.network, ["r"], x)["r"] + 1)
    assert with_affines(prepared.network, {}) is prepared.network


def test_a_dead_channel_is_not_blown_up() -> None:
    y = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    y[:, 1] = 0.25
    found = matching(y, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 100.0]))
    assert torch.equal(found.a.clamp(1 / STRONGEST, STRONGEST), found.a)
    made = found.a.view(1, -1, 1, 1) * y + found.b.view(1, -1, 1, 1)
    torch.testing.assert_close(made.mean((0, 2, 3)), torch.tensor([1.0, 2.0, 3.0]))
    assert made[:, 1].std() < 1e-5


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        (Choice("data", "data", ""), False),
        (Choice("amplified", "data+distilled", ""), False),
        (Choice("data", "data+distilled", ""), False),
        (Choice("distilled", "distilled", ""), True),
        (Choice("data", "distilled", ""), True),  # by an earlier run: `distill`, or one that is optimised again
        (Choice("data", "procedural+refined", ""), True),
        (Choice("procedural", "procedural", ""), True),
    ],
    ids=lambda case: case.images if isinstance(case, Choice) else "",
)
def test_images_that_somebody_took_are_left_as_they_are(choice: Choice, made: bool) -> None:
    prepared = prepare(small_bn_net(), PlacementConfig())
    found = matching_affines(prepared, QuantizeConfig(), choice, NOISE, CPU, lambda step: None)
    assert bool(found) == choice.made == made
    settings = closed_form_for(choice, ClosedFormConfig())
    assert settings is not None
    assert (settings.ridge is not None) == ("procedural" in choice.images)


def equalised(text: str) -> tuple[Prepared, dict[str, Affine]]:
    """A net with its channels scaled, and affines at some of its values."""
    prepared = prepare(network(text), PlacementConfig(setting="qdrop")).with_own_biases()
    x = torch.from_numpy(images())
    generator = torch.Generator().manual_seed(3)
    wanted = {}
    for value in ("a", "d", "e"):
        channels = values(prepared.network, [value], x)[value].shape[1]
        wanted[value] = (torch.randn(channels, generator=generator), 0.5 + torch.rand(channels, generator=generator))
    found = affines(prepared.network, wanted, x, CPU)
    network_of = with_affines(prepared.network, found)
    return equalise(prepared, network_of, x, Constraints(), 0, CPU, lambda step: None).applied(prepared), found


@pytest.mark.parametrize("matched", [False, True])
@pytest.mark.parametrize("text", [MOBILE, RESIDUAL], ids=["mobile", "residual"])
def test_without_rounding_the_student_is_the_teacher_at_its_own_scale(text: str, matched: bool) -> None:
    """e times the teacher's, value by value, and the teacher's own function where both are compared."""
    prepared, found = equalised(text)
    student, twin = networks(prepared, found if matched else {})
    x = torch.from_numpy(images(8, seed=4)) * (0.01 if text == MOBILE else 1)  # dim, for the ceilings
    names = [str(v.name) for node in prepared.deploy.graph for v in node.outputs]
    ours, floats = values(student, names, x), values(twin.network, names, x)
    assert set(twin.scales) == set(prepared.factors)
    beyond, compared = False, 0
    for name, y in floats.items():
        expected = y * twin.of(name, y) if name in twin.scales else y
        beyond = beyond or (text == MOBILE and bool((expected > 6.001).any()))
        if beyond:  # what a ceiling cuts off goes on from there
            continue
        compared += 1
        torch.testing.assert_close(ours[name], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()), msg=name)
    assert compared == len(names) if text == RESIDUAL else compared >= 4
    inside = twin.function(("r",), ("d", "e"))(ours["r"])
    for name, y in zip(("d", "e"), inside, strict=True):
        if text == RESIDUAL:
            torch.testing.assert_close(y, ours[name], rtol=1e-3, atol=1e-4 * float(y.abs().max()), msg=name)


def test_a_part_of_the_teacher_takes_and_gives_values_at_the_scale_of_the_student() -> None:
    prepared, _ = equalised(RESIDUAL)
    _, twin = networks(prepared, {})
    x = torch.from_numpy(images(4))
    at = values(twin.network, ["r", "t", "u"], x)
    assert {"r", "t", "u"} <= twin.scales.keys()
    (t, u) = twin.function(("r",), ("t", "u"))(at["r"] * twin.of("r", at["r"]))
    torch.testing.assert_close(t, at["t"] * twin.of("t", at["t"]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(u, at["u"] * twin.of("u", at["u"]), rtol=1e-4, atol=1e-4)
    (scores,) = twin.function(("image",), ("scores",))(x)
    torch.testing.assert_close(scores, twin.network({"image": x})["scores"])


def test_matched_images_need_less_headroom_and_real_ones_none() -> None:
    affine = {"a": Affine(torch.ones(2), torch.zeros(2))}
    assert headroom(affine, 2.0) == MATCHED_HEADROOM < 2.0
    assert headroom({}, 2.0) == 2.0
    assert headroom(affine, 1.0) == 1.0
