"""Options that say what is rounded to how many bits, and the file that holds those about single layers."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from genie_onnx_cli import completing
from genie_onnx_cli.groups import option

from genie_onnx.config import BitGoal, LayerBits, PlacementConfig
from genie_onnx.errors import ConfigError


class BitsOfLayers(click.ParamType):
    """``conv7=8/4`` -> LayerBits(pattern="conv7", wbits=8, abits=4)."""

    name = "bits"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> LayerBits:
        """Parse `value`; LayerBits are parsed already."""
        if isinstance(value, LayerBits):
            return value
        pattern, _, bits = str(value).rpartition("=")  # a name may have = in it, bits have not
        if not pattern:
            self.fail(f"{value!r} is not NODE=W/A, such as conv7=8/8", param, ctx)
        return layer_bits(pattern, bits)


def layer_bits(pattern: str, bits: object) -> LayerBits:
    """Return what ``bits``, e.g. "8/4", says about `pattern`. Raises ConfigError where it is no such text."""
    found = re.fullmatch(r"(\d+)/(\d+)", bits) if isinstance(bits, str) else None
    if found is None:
        raise ConfigError(f"bits of {pattern!r} are W/A, of the weights and of what the layer reads, such as 8/8; not {bits!r}")
    return LayerBits(pattern=pattern, wbits=int(found[1]), abits=int(found[2]))


def read_layers(path: Path) -> tuple[tuple[str, ...], tuple[LayerBits, ...]]:
    """Return the patterns to keep float and the bits of layers from a TOML file:

        keep-float = ["Sigmoid", "/head/*"]
        [bits]
        "/layer1/conv2/Conv" = "8/4"

    Raises ConfigError with everything in it that is not of this form.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--layers {path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--layers {path}: this is not TOML: {error}") from error
    problems = [
        f"--layers {path}: unknown entry {key!r}; there are keep-float and [bits]"
        for key in content.keys() - {"keep-float", "bits"}
    ]
    keep_float, bits = content.get("keep-float", []), content.get("bits", {})
    if not isinstance(keep_float, list) or not all(isinstance(pattern, str) for pattern in keep_float):
        problems.append(f'--layers {path}: keep-float is a list of patterns, such as ["Sigmoid", "/head/*"]')
    if not isinstance(bits, dict):
        problems.append(f'--layers {path}: [bits] is a table of "PATTERN" = "W/A"')
        bits = {}
    found = []
    for pattern, text in bits.items():
        if isinstance(text, dict):
            problems.append(f'--layers {path}: a name with dots needs quotes: "{pattern}.{next(iter(text), "")}" = "8/8"')
            continue
        try:
            found.append(layer_bits(pattern, text))
        except ConfigError as error:
            problems += [f"--layers {path}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return tuple(keep_float), tuple(found)


def bit_goal(given: Mapping[str, Any]) -> BitGoal | None:
    """Return what `--avg-bits`, `--target-size` and `--max-drop` ask for, None where none is given.

    Raises ConfigError where they exclude each other, or an option beside them has nothing to say any more.
    """
    average, size, drop = (given[name] for name in ("avg_bits", "target_size", "max_drop"))
    if average is None and size is None and drop is None:
        return None
    context = click.get_current_context()
    vain = [name for name in ("wbits", "first_last_bits") if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    goal = BitGoal(average=average, share=None if size is None else size[0], bytes=None if size is None else size[1], drop=drop)
    if vain:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in vain)
        raise ConfigError(f"{goal} chooses the bits of every layer, so leave out {options}; --bits fixes those of single layers")
    return goal


class SizeGoal(click.ParamType):
    """``60%`` -> (0.6, None), ``1.2MB`` -> (None, 1200000)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float | None, int | None]:
        """Parse `value`; what is parsed already stays."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%|kB|MB|GB)\s*", str(value), re.IGNORECASE)
        if found is None:
            self.fail(f"{value!r} is not a share such as 60%, or a size such as 800kB or 1.2MB", param, ctx)
        number, unit = float(found[1]), found[2].lower()
        return (number / 100, None) if unit == "%" else (None, round(number * 1000 ** ("kmg".index(unit[0]) + 1)))


def placement_config(given: Mapping[str, Any]) -> PlacementConfig:
    """Return the settings that the values of `placement` stand for. Raises ConfigError for a file that cannot be used."""
    keep_float, bits = ((), ()) if given["layers"] is None else read_layers(given["layers"])
    return PlacementConfig(
        wbits=given["wbits"],
        abits=given["abits"],
        first_last_bits=given["first_last_bits"],
        setting=given["setting"],
        other_bits=given["other_bits"],
        points=given["points"],
        reduce_range=given["reduce_range"],
        keep_float=(*keep_float, *given["keep_float"]),
        layer_bits=(*bits, *given["bits"]),
    )


wbits = option("--wbits", type=click.IntRange(2, 8), metavar="N", default=4, show_default=True, help="Bits of weights.")
abits = option(
    "--abits", type=click.IntRange(2, 8), metavar="N", default=4, show_default=True, help="Bits of the inputs of weighted layers."
)
rounded = (
    option(
        "--first-last-bits",
        type=click.IntRange(2, 8),
        metavar="N",
        default=8,
        show_default=True,
        help="Weights of the first and last layer, input of the last.",
    ),
    option(
        "--other-bits",
        type=click.IntRange(2, 8),
        metavar="N",
        default=8,
        show_default=True,
        help="Values that feed no weighted layer, and the input.",
    ),
    option(
        "--keep-float",
        multiple=True,
        shell_complete=completing.nodes,
        metavar="NODE",
        help="Leave these nodes in float: the name of a node, an operator type (Sigmoid), or a glob on names ('/head/*'). May be "
        "given several times. The node asks for no rounding, nor do operators beside it. A layer keeps its float weight, and "
        "what it reads and writes is rounded only where another layer reads it (so the layer before it runs in a float kernel).",
    ),
    option(
        "--bits",
        multiple=True,
        type=BitsOfLayers(),
        shell_complete=completing.bits,
        metavar="NODE=W/A",
        help="Bits of single layers, of the weight and of the value it reads: 'conv7=8/8'. NODE as in --keep-float; a name "
        "outranks a glob, a glob an operator type. Outranks --wbits, --abits, --first-last-bits and --other-bits. A value that "
        "two layers read has the larger bits.",
    ),
    option(
        "--layers",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help='Both in a TOML file: keep-float = ["Sigmoid"], and a table [bits] with "conv7" = "8/8".',
    ),
    option(
        "--reduce-range",
        is_flag=True,
        help="Weights of 8 bits have 7: onnxruntime's kernels for x86 CPUs without VNNI saturate with more.",
    ),
)
published_points = (
    option(
        "--setting",
        type=click.Choice(["brecq", "qdrop"]),
        default="brecq",
        show_default=True,
        help="brecq: the input of the second layer has FIRST_LAST_BITS too; qdrop: it has ABITS.",
    ),
    option(
        "--points",
        type=click.Choice(["full", "layer-inputs"]),
        default="full",
        show_default=True,
        help="What is rounded: all that an integer runtime rounds, or only inputs of layers, as in the paper.",
    ),
)
goals = (
    option(
        "--avg-bits",
        type=click.FloatRange(2, 8),
        metavar="X",
        help="Choose the bits of each block's weights (2, 3, 4 or 8) by what they do to the outputs, so many on average. The few "
        "values below 8 bits that do most to the outputs get 8.",
    ),
    option(
        "--target-size",
        type=SizeGoal(),
        metavar="SHARE|SIZE",
        help="The same for a size of the model with weights at their true bits: 60% of what it has at 8 bits, or 1.2MB.",
    ),
    option(
        "--max-drop",
        type=click.FloatRange(0, 100, min_open=True),
        metavar="POINTS",
        help="The same for the smallest model that loses at most so many points of top-1, as far as the float model's own "
        "probabilities tell (no classifier: with a root mean square error of so many percent of the outputs).",
    ),
)
