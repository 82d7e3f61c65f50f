"""Options that say how pictures become the model's input, and the one value that they mean together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast, get_args

import click
from genie_onnx_cli.groups import option
from genie_onnx_cli.kinds import Lengths, Numbers, Size

from genie_onnx.framing import Framing, Interpolation
from genie_onnx.preprocessing import RECIPES, Preprocessing

F = TypeVar("F", bound=Callable[..., Any])

OLD_NAMES = {"input_mean": "mean", "input_std": "std"}  # options of 0.1, hidden for one release

_OPTIONS = (
    option(
        "--preprocess",
        type=click.Choice(list(RECIPES)),
        help="Presets, which the options below override: imagenet is --resize 256 --crop 224 --mean 0.485,0.456,0.406 --std "
        "0.229,0.224,0.225; cifar --mean 0.4914,0.4822,0.4465 --std 0.2470,0.2435,0.2616; none leaves pixels 0..255.",
    ),
    option(
        "--mean",
        type=Numbers(),
        metavar="M[,M,M]",
        help="What the model's preprocessing subtracts from pixels scaled to 0..1, e.g. 0.485,0.456,0.406. Raw 0..255: 0.",
    ),
    option(
        "--std",
        type=Numbers(),
        metavar="S[,S,S]",
        help="What it divides by then, e.g. 0.229,0.224,0.225. Raw 0..255: 0.003922.",
    ),
    *(option(f"--{name.replace('_', '-')}", type=Numbers(), hidden=True) for name in OLD_NAMES),
    option("--channel-order", type=click.Choice(["rgb", "bgr"]), default="rgb", show_default=True, help="Of the model's input."),
    option(
        "--resize",
        type=Lengths(),
        metavar="N|HxW",
        help="Pictures are scaled until their shorter side is N, or to HxW.  [default: until they cover the input]",
    ),
    option("--crop", type=Lengths(), metavar="N|HxW", help="... and this is cut at their centre.  [default: the model's input]"),
    option(
        "--interpolation", type=click.Choice(list(get_args(Interpolation))), help="How pictures are scaled.  [default: bilinear]"
    ),
)
input_size = option("--input-size", type=Size(), metavar="HxW", help="Where the model leaves height and width open.")
layout = option(
    "--layout",
    type=click.Choice(["auto", "nchw", "nhwc"]),
    default="auto",
    show_default=True,
    help="Where the model's input has its channels; auto: where the graph shows it, else nhwc where only the last dimension can "
    "be channels.",
)


def preprocessing(function: F) -> F:
    """Add these options, less `input_size` and `layout`.

    The command is given `preprocessing`, a Preprocessing with the preset worked in, and an `input_size` that is the crop where
    none is given.
    """

    @functools.wraps(function)
    def resolved(*arguments: Any, **given: Any) -> Any:
        return function(*arguments, **_resolved(given))

    decorated = cast(F, resolved)
    for add in reversed(_OPTIONS):
        decorated = add(decorated)
    return decorated


def _resolved(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a command with those of pictures replaced by what they mean together."""
    for old, new in OLD_NAMES.items():
        _renamed(given, old, new)
    recipe = RECIPES.get(given.pop("preprocess"))
    mean, std, channel_order = (given.pop(name) for name in ("mean", "std", "channel_order"))
    sizes = {name: given.pop(name) for name in ("resize", "crop", "interpolation")}
    if sizes["crop"] is not None:
        sizes["crop"] = (sizes["crop"] * 2)[:2]  # 224 is 224x224
    chosen = {name: value for name, value in sizes.items() if value is not None}
    framing = recipe.framing if recipe else None
    if chosen:
        framing = dataclasses.replace(framing or Framing(), **chosen)
    if recipe:
        step = -1 if channel_order == "bgr" else 1  # a preset's numbers are for rgb
        mean, std = mean or recipe.mean[::step], std or recipe.std[::step]
        length = max(len(mean), len(std))  # one number is for all channels
        mean, std = (numbers * (length if len(numbers) == 1 else 1) for numbers in (mean, std))
    return {
        **given,
        "preprocessing": Preprocessing(mean=mean, std=std, channel_order=channel_order, framing=framing),
        "input_size": given["input_size"] or (framing and framing.crop),
    }


def _renamed(given: dict[str, Any], old: str, new: str) -> None:
    """Take an option under its old name for that under its new one, and say so."""
    value = given.pop(old)
    if value is None:
        return
    options = [f"--{name.replace('_', '-')}" for name in (old, new)]
    if given[new] is not None:
        raise click.UsageError(f"{options[0]} is the old name of {options[1]}: give that one alone", click.get_current_context())
    click.echo(f"warning: {options[0]} is now {options[1]}; the old name goes with the next release", err=True)
    given[new] = value
