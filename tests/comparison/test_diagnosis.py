"""The rules of the diagnosis, on findings made by hand; and that the commands are such that `quantize` takes."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from comparison.evidence import evidence
from genie_onnx_cli.main import main
from genie_onnx_cli.placement import placement_config

from genie_onnx.comparison.constant_fills import ConstantFill
from genie_onnx.comparison.diagnosis import Evidence, diagnose
from genie_onnx.comparison.requantize import Origin, another, command
from genie_onnx.comparison.shared_grids import SharedGrid
from genie_onnx.config import BitGoal, LayerBits, PlacementConfig, QuantizeConfig, ReconstructConfig
from genie_onnx.framing import Framing
from genie_onnx.targets import TARGETS, Target
from genie_onnx.validate.layerwise import Advice, Effect

LEARNED = QuantizeConfig(samples=512, reconstruct=ReconstructConfig(iterations=1000))
ORIGIN = Origin(model="net.onnx", quantized="out/net.quant.onnx", config=LEARNED, calibrated="distilled")


def parsed(line: str) -> dict[str, Any]:
    """Return the options of a command as `quantize` gets them."""
    program, name, *arguments = shlex.split(line)
    assert (program, name) == ("genie-onnx", "quantize")
    quantize = main.commands["quantize"]
    context = quantize.make_context("quantize", arguments, parent=click.Context(main))
    with context:
        placement_config(context.params)
    return context.params


def only(found: Sequence[Advice]) -> tuple[str, dict[str, Any]]:
    (advice,) = found
    return advice.text, parsed(advice.command)


@pytest.mark.parametrize(("sqnr_db", "agreement"), [(38.0, None), (31.0, 0.5), (21.0, 1.0)])
def test_where_outputs_are_near_there_is_nothing_to_do(sqnr_db: float, agreement: float | None) -> None:
    (advice,) = diagnose(evidence((0.97, 0.03), sqnr_db=sqnr_db, agreement=agreement), ORIGIN)
    assert advice.text.startswith(f"Output at {sqnr_db:.1f} dB")
    assert advice.text.endswith("nothing to do.")
    assert advice.command == ""


@pytest.mark.parametrize(("sqnr_db", "agreement"), [(38.0, None), (21.0, 1.0)])
def test_a_file_that_was_judged_less_than_good_is_told_so_with_what_helps(sqnr_db: float, agreement: float | None) -> None:
    """Near outputs on these images are no ground to contradict what the file says of itself."""
    judged = dataclasses.replace(ORIGIN, judged="usable: output 'y' is at 18.0 dB (on 64 of yours, held back)")
    weights = {2: {"bits": 2, "sqnr_db": 8.0, "levels": 4, "used_median": 4.0}}
    found = evidence((0.1, 0.1, 0.7, 0.1), sqnr_db=sqnr_db, agreement=agreement, weights=weights)
    first, second = diagnose(found, judged)[:2]
    assert first.text.startswith(f"Output at {sqnr_db:.1f} dB")
    assert "near enough on these images. But its run judged the file usable: output 'y' is at 18.0 dB" in first.text
    assert "nothing to do" not in first.text
    assert second.block == "b2"
    assert second.command


def test_one_block_that_stands_out_gets_more_bits_for_what_is_worst_in_it() -> None:
    found = evidence((0.1, 0.1, 0.7, 0.1), weights={2: {"bits": 2, "sqnr_db": 8.0, "levels": 4, "used_median": 4.0}})
    text, options = only(diagnose(found, ORIGIN))
    assert text.startswith("Block 'b2' makes 70 % of the noise at the outputs: its weights 'w2' have 2 bits (8.0 dB).")
    assert "With this block in float: 15.0 dB, agreement 90 % (now 12.0 dB, agreement 80 %)" in text
    assert options["bits"] == (LayerBits(pattern="/w2/Conv", wbits=4, abits=4),)
    assert str(options["output"]) == "out/net.quant.2.onnx"


def test_depthwise_weights_that_use_few_codes_are_named() -> None:
    changes = {1: {"operator": "depthwise Conv", "used_median": 5.0, "sqnr_db": 9.0}}
    text, options = only(diagnose(evidence((0.1, 0.7, 0.1, 0.1), weights=changes), ORIGIN)[:1])
    assert "its depthwise weights 'w1' have 4 bits and use 5 of 16 codes (9.0 dB)" in text
    assert options["bits"] == (LayerBits(pattern="/w1/Conv", wbits=8, abits=4),)


def test_a_block_with_fewer_bits_than_others_stands_out_sooner() -> None:
    """As in a network that learned: of eleven blocks, the one at 2 bits made 25 % of the noise and the one before it 24 %."""
    shares = (0.22, 0.23, *(0.55 / 9,) * 9)
    assert not any(advice.block for advice in diagnose(evidence(shares), ORIGIN))
    low = evidence(shares, weights={1: {"bits": 2, "sqnr_db": 8.0}}, blocks={1: {"all_but": Effect(sqnr_db=9.0, agreement=0.7)}})
    advice = diagnose(low, ORIGIN)[0]
    assert advice.block == "b1"
    assert "in float" not in advice.text  # that would be worse
    neighbours = evidence((0.26, 0.21, *(0.53 / 9,) * 9), weights={1: {"bits": 2, "sqnr_db": 8.0}})
    assert [advice.block for advice in diagnose(neighbours, ORIGIN)] == ["b1", "b0"]


def test_only_what_is_bad_in_a_block_gets_more_bits() -> None:
    """A block of two layers, one of them at 2 bits; and one whose coarse value no layer reads."""
    found = evidence((0.1, 0.7, 0.1, 0.1), weights={1: {"bits": 2, "sqnr_db": 8.0}, 2: {"sqnr_db": 21.0}})
    blocks = [dataclasses.replace(b, weights=("w1", "w2")) if b.block == "b1" else b for b in found.blocks]
    advice = diagnose(dataclasses.replace(found, blocks=blocks), ORIGIN)[0]
    assert [wish.pattern for wish in parsed(advice.command)["bits"]] == ["/w1/Conv"]
    changes = {"abits": 8, "sqnr_db": 21.0}
    unread = evidence((0.1, 0.7, 0.1, 0.1), weights={1: changes}, values={1: {"rounding_db": 9.0}})
    assert parsed(diagnose(unread, ORIGIN)[0].command)["bits"] == (LayerBits(pattern="/w1/Conv", wbits=8, abits=8),)


def test_a_value_that_costs_more_than_the_weight_gets_the_bits() -> None:
    text, options = only(diagnose(evidence((0.1, 0.1, 0.7, 0.1), values={2: {"rounding_db": 9.0}}), ORIGIN))
    assert "it reads 'v2' with 4 bits (9.0 dB)" in text
    assert options["bits"] == (LayerBits(pattern="/w2/Conv", wbits=4, abits=8),)


def test_a_block_that_has_8_bits_is_kept_float() -> None:
    found = evidence((0.1, 0.7, 0.1, 0.1), weights={1: {"bits": 8, "abits": 8}}, values={1: {"bits": 8}})
    text, options = only(diagnose(found, ORIGIN))
    assert "It has 8 bits: keep it in float" in text
    assert options["keep_float"] == ("/w1/Conv",)


def test_without_effects_the_block_whose_noise_grows_most_is_named() -> None:
    noise = {k: {"sqnr_db": db} for k, db in enumerate((30.0, 29.0, 10.0, 9.5))}
    between = {k + 1: {"sqnr_db": entry["sqnr_db"]} for k, entry in noise.items() if k < 3}
    advice = diagnose(evidence((None,) * 4, blocks=noise, values=between), ORIGIN)[0]
    assert advice.block == "b2"
    assert "estimated" in advice.text


def test_noise_that_is_spread_gets_bits_by_sensitivity() -> None:
    text, options = only(diagnose(evidence(), ORIGIN))
    assert "no block makes more than 30 %" in text
    assert options["avg_bits"] == 5.0
    short = dataclasses.replace(ORIGIN, config=QuantizeConfig(samples=256, reconstruct=ReconstructConfig(iterations=500)))
    first, second = diagnose(evidence(), short)
    assert parsed(first.command)["preset"] == "balanced"
    assert parsed(second.command)["avg_bits"] == 5.0


def test_values_that_cost_more_than_weights_everywhere_get_more_bits() -> None:
    text, options = only(diagnose(evidence(values={k: {"rounding_db": 12.0} for k in range(1, 4)}), ORIGIN))
    assert "Values cost more than weights" in text
    assert options["abits"] == 8


def test_depthwise_layers_together_get_8_bits() -> None:
    changes = {k: {"operator": "depthwise Conv", "used_median": 5.0, "sqnr_db": 15.0} for k in (1, 3)}
    advice = diagnose(evidence(weights=changes), ORIGIN)[0]
    assert "Of 2 depthwise layers a channel's weights use 5 of 16 codes" in advice.text
    assert [wish.pattern for wish in parsed(advice.command)["bits"]] == ["/w1/Conv", "/w3/Conv"]


def test_depthwise_layers_that_are_as_near_as_others_are_left_alone() -> None:
    changes = {k: {"operator": "depthwise Conv", "used_median": 5.0, "sqnr_db": 26.0} for k in (1, 3)}
    assert not any("depthwise" in advice.text for advice in diagnose(evidence(weights=changes), ORIGIN))


@pytest.mark.parametrize("calibrated", ["distilled", "data"])
def test_values_that_reach_beyond_their_grids_are_calibrated_on_the_images(calibrated: str) -> None:
    origin = dataclasses.replace(ORIGIN, calibrated=calibrated, data=("photos",))
    found = evidence(values={2: {"saturated": 0.12, "rounding_db": 14.0, "high": 9.0}})
    advice = next(advice for advice in diagnose(found, origin) if "reaches beyond its grid" in advice.text)
    assert "of 'v2' 12 % lies outside of 0 .. 3.75 (it goes from 0 to 9)" in advice.text
    options = parsed(advice.command)
    assert [str(path) for path in options["data"]] == ["photos"]
    assert (options["samples"], options["preset"]) == ((1024, None) if calibrated == "data" else (None, "balanced"))


def in_a_corner(bits: int = 4, selected: bool = True, **changes: Any) -> Evidence:
    """v2 and v1 on one grid, of which v2 uses two codes; nothing else is wrong."""
    narrow = {"high": 0.25, "used": 2, "rounding_db": 3.0, "bits": bits}
    found = evidence(values={1: {"bits": bits}, 2: narrow}, weights={2: {"abits": bits}}, **changes)
    shared = (
        SharedGrid(value="v1", others=("v2",), selected=False, layers=("/w1/Conv",)),
        SharedGrid(value="v2", others=("v1",), selected=selected, layers=("/w2/Conv",)),
    )
    return dataclasses.replace(found, shared=shared)


@pytest.mark.parametrize("images", ["data", "procedural"])
def test_a_selection_in_a_corner_of_its_source_s_grid_gets_its_own_by_another_run_not_by_more_images(images: Any) -> None:
    first, *others = diagnose(in_a_corner(images=images), ORIGIN)
    assert first.text.startswith("'v2' uses 2 of 16 codes (3.0 dB): it goes from 0 to 0.25, and is on one grid with 'v1', which")
    assert "a grid of its own" in first.text
    assert parsed(first.command)["data"] == ((Path("PATH"),) if images == "data" else ())
    assert not any("Calibration" in advice.text for advice in others)


def test_a_value_that_cannot_have_its_own_grid_gets_more_bits_or_its_layer_stays_float() -> None:
    qnn = dataclasses.replace(ORIGIN, config=dataclasses.replace(LEARNED, target=_with_bits("qnn")))
    for found, origin in ((in_a_corner(selected=False), ORIGIN), (in_a_corner(), qnn)):
        first, *others = diagnose(found, origin)
        assert "Give the layer that reads it 8 bits" in first.text
        assert LayerBits(pattern="/w2/Conv", wbits=4, abits=8) in parsed(first.command)["bits"]
        assert not any("Calibration" in advice.text for advice in others)
    first, *_ = diagnose(in_a_corner(bits=8, selected=False), ORIGIN)
    assert parsed(first.command)["keep_float"] == ("/w2/Conv",)


def stretched(**changes: Any) -> Evidence:
    """v2 has -1000 at one end of its grid, and all else in one code at the other; nothing else is wrong."""
    fields = {"bits": 8, "levels": 256, "used": 2, "low": -1000.0, "high": 3.0, "grid_low": -1000.0, "grid_high": 4.0}
    histogram = (9, *(0,) * 254, 99)
    fields |= {"scale": 1004 / 255, "histogram": histogram, "rounding_db": 45.0, **changes}
    found = evidence((0.4, 0.3, 0.3), values={2: fields, 1: {"saturated": 0.2, "rounding_db": 9.0}}, blocks={})
    fill = ConstantFill(value="v2", node="/pad/Pad", operator="Pad", number=-1000.0, layers=("/w2/Conv",))
    return dataclasses.replace(found, fills=(fill,))


@pytest.mark.parametrize("images", ["data", "procedural"])
def test_a_constant_that_stretches_a_grid_is_the_cause_and_not_images_or_a_short_run(images: Any) -> None:
    short = dataclasses.replace(ORIGIN, config=QuantizeConfig(samples=256, reconstruct=ReconstructConfig(iterations=50)))
    first, *others = diagnose(dataclasses.replace(stretched(), images=images), short)
    assert first.cause == "Pad '/pad/Pad' puts the constant -1000 into 'v2', and leaves the image 1 of 256 codes"
    assert parsed(first.command)["keep_float"] == ("/w2/Conv",)
    assert not any("Calibration" in advice.text or "iterations" in advice.text for advice in others)


@pytest.mark.parametrize(
    "changes",
    [
        {"histogram": (9,) + (0,) * 100 + (1,) * 155},  # the image has most of the grid
        {"histogram": (0, *(1,) * 255)},  # the constant does not occur
        {"histogram": (9, 9, 9, *(0,) * 253)},  # it is beside what the image makes
        {"grid_low": -3000.0, "scale": 3004 / 255},  # something else is at the end
    ],
)
def test_a_constant_that_costs_no_codes_is_not_blamed(changes: dict[str, Any]) -> None:
    assert not any("constant" in advice.text for advice in diagnose(stretched(**changes), ORIGIN))


def test_the_cause_is_said_in_one_clause() -> None:
    noisy = evidence((0.1, 0.1, 0.7, 0.1), weights={2: {"bits": 2, "sqnr_db": 8.0, "levels": 4, "used_median": 4.0}})
    assert diagnose(noisy, ORIGIN)[0].cause == "block 'b2' makes 70 % of the noise: its weights 'w2' have 2 bits (8.0 dB)"
    assert diagnose(evidence(sqnr_db=40.0), ORIGIN)[0].cause == ""
    spread = diagnose(evidence(), ORIGIN)[0].cause
    assert spread == "block 'b0' makes most of the noise, 30 %: its weights 'w0' have 4 bits (20.0 dB)"
    assert diagnose(in_a_corner(), ORIGIN)[0].cause == "'v2' uses 2 of 16 codes, on one grid with 'v1' (up to 4)"


def _with_bits(target: str) -> Target:
    """A target that takes values of few bits, but for that as it is."""
    row = TARGETS[target]
    return dataclasses.replace(row, constraints=dataclasses.replace(row.constraints, value_bits=(2, 8)))


def test_a_grid_that_is_much_too_wide_is_named() -> None:
    found = evidence(values={2: {"grid_high": 37.5, "rounding_db": 9.0}})
    assert any("'v2' goes from 0 to 4 on a grid 0 .. 37.5" in advice.text for advice in diagnose(found, ORIGIN))


def test_what_made_up_images_do_not_reach_says_nothing() -> None:
    found = evidence(values={2: {"grid_high": 37.5, "rounding_db": 9.0}}, image={"high": 0.1}, images="procedural")
    assert not any("37.5" in advice.text or "image" in advice.text for advice in diagnose(found, ORIGIN))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ({"low": 0.0, "high": 1.0, "grid_low": -2.1, "grid_high": 2.6}, "use 21 % of the grid of input 'image'"),
        ({"saturated": 0.3, "high": 255.0}, "30 % of what these images feed into input 'image' lies outside"),
    ],
)
def test_images_that_do_not_fit_the_input_come_first(image: dict[str, float], said: str) -> None:
    config = dataclasses.replace(LEARNED, mean=(0.5,), std=(0.25,))
    origin = dataclasses.replace(ORIGIN, config=config, data=("photos",))
    advice = diagnose(evidence((0.1, 0.8, 0.1), image=image), origin)[0]
    assert said in advice.text
    assert "The run had --mean 0.5 --std 0.25, this comparison no --mean" in advice.text
    assert parsed(advice.command)["mean"] is None  # to calibrate as here
    same = dataclasses.replace(origin, preprocessing=config.preprocessing)
    assert parsed(diagnose(evidence(image=image), same)[0].command)["mean"] == (0.5,)


def test_weights_of_another_training_are_seen_as_such() -> None:
    text, _ = only(diagnose(evidence(weights={k: {"sqnr_db": -3.0} for k in range(4)}), ORIGIN))
    assert "is hardly the model that the file was made from" in text


def test_there_are_at_most_five_pieces_of_advice_and_every_command_is_one_of_quantize() -> None:
    found = evidence(
        (0.45, 0.45, 0.05, 0.05, *(0.0,) * 8),
        image={"saturated": 0.5},
        weights={3: {"operator": "depthwise Conv", "used_median": 5.0, "sqnr_db": 9.0}},
        values={2: {"saturated": 0.2, "rounding_db": 9.0}, 3: {"grid_high": 40.0, "rounding_db": 9.0}},
    )
    advice = diagnose(found, dataclasses.replace(ORIGIN, data=("my photos",)))
    assert len(advice) == 5
    for piece in advice:
        parsed(piece.command)


CONFIGS = {
    "defaults": QuantizeConfig(),
    "made": QuantizeConfig(images="procedural", seed=7),
    "placement": QuantizeConfig(
        placement=PlacementConfig(
            wbits=3,
            abits=6,
            first_last_bits=4,
            setting="qdrop",
            points="layer-inputs",
            reduce_range=True,
            keep_float=("Sigmoid", "/head/*"),
            layer_bits=(LayerBits(pattern="/a b/Conv", wbits=8, abits=4), LayerBits(pattern="old", wbits=2, abits=2)),
        )
    ),
    "pictures": QuantizeConfig(
        mean=(0.1, 0.2, 0.3), std=(0.5,) * 3, channel_order="bgr", framing=Framing(resize=(256,), crop=(224, 200))
    ),
    "target": QuantizeConfig(
        placement=PlacementConfig(abits=8),
        target=dataclasses.replace(
            TARGETS["rknn"], constraints=dataclasses.replace(TARGETS["rknn"].constraints, outputs="rounded")
        ),
    ),
    "average": QuantizeConfig(bit_goal=BitGoal(average=3.5)),
    "share": QuantizeConfig(bit_goal=BitGoal(share=0.6)),
    "bytes": QuantizeConfig(bit_goal=BitGoal(bytes=1_234_500)),
    "drop": QuantizeConfig(bit_goal=BitGoal(drop=1.0)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_command_does_as_the_run_did(name: str) -> None:
    config = CONFIGS[name]
    new = LayerBits(pattern="old", wbits=8, abits=8)
    origin = dataclasses.replace(ORIGIN, config=config, set_inputs={"scale": (1.0, 0.5)}, input_size=(24, 94))
    options = parsed(command(origin, bits=[new]))
    made = placement_config(options)
    kept = tuple(wish for wish in config.placement.layer_bits if wish.pattern != "old")
    assert made == dataclasses.replace(config.placement, layer_bits=(*kept, new))
    assert (options["mean"], options["std"]) == (config.mean, config.std)
    assert options["channel_order"] == config.channel_order
    assert (options["target"] or "portable") == config.target.name
    assert options["round_outputs"] == (config.target.constraints.outputs == "rounded")
    assert options["set_inputs"] == (("scale", (1.0, 0.5)),)
    assert options["input_size"] == (24, 94)
    assert (options["images"], options["seed"]) == (config.images, config.seed)
    goals = {"average": ("avg_bits", 3.5), "share": ("target_size", (0.6, None)), "drop": ("max_drop", 1.0)}
    goals |= {"bytes": ("target_size", (None, 1_234_500))}
    if name in goals:
        option, amount = goals[name]
        assert options[option] == amount


def test_choosing_bits_by_their_average_leaves_out_what_it_replaces() -> None:
    config = QuantizeConfig(placement=PlacementConfig(wbits=3, first_last_bits=4, abits=6))
    options = parsed(command(dataclasses.replace(ORIGIN, config=config), average=4.5))
    assert (options["wbits"], options["first_last_bits"], options["abits"], options["avg_bits"]) == (4, 8, 6, 4.5)


def test_names_of_the_next_file() -> None:
    assert another("a/net.quant.onnx") == "a/net.quant.2.onnx"
    assert another("a/net.quant.2.onnx") == "a/net.quant.3.onnx"
