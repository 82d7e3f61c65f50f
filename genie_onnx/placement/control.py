"""What a user says about single nodes: patterns -> the nodes that stay float, and layers with bits of their own.

A pattern means
    the node of that name, if there is one,                                 "/layer1/conv2/Conv"
    else every node of that operator type, if there is one,                 "Sigmoid"
    else every node whose name it fits as a glob (* ? [abc], also over /).  "/layer1/*"
Of two patterns that give one layer different bits the more exact one holds: a name before a glob before an operator type;
of two equally exact ones the larger bits. What is kept float has no bits.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import onnx_ir as ir

from genie_onnx.config import LayerBits, PlacementConfig
from genie_onnx.errors import ConfigError
from genie_onnx.graph.query import WEIGHTED_OPS

_SUGGESTIONS = 3


@dataclass(frozen=True, kw_only=True)
class Control:
    """Node names with what was said about them."""

    kept: Mapping[str, str]  # node that stays float -> the pattern that says so
    bits: Mapping[str, LayerBits]  # weighted node -> its bits, unless it stays float


class Exactness(IntEnum):
    """How exactly a pattern names a node."""

    OPERATOR = 0
    GLOB = 1
    NAME = 2


def resolve(graph: ir.Model, config: PlacementConfig) -> Control:
    """Return what the patterns of `config` mean in a normalised graph.

    Raises ConfigError with a sentence for each pattern that means no node, or bits for nodes that have no weights.
    """
    nodes = list(graph.graph)
    problems: list[str] = []
    kept: dict[str, str] = {}
    for pattern in config.keep_float:
        found, _ = matching(pattern, nodes)
        kept = {str(n.name): pattern for n in found} | kept
        if not found:
            problems.append(_no_match("--keep-float", pattern, nodes))
    wishes: dict[str, list[tuple[Exactness, LayerBits]]] = {}
    for wish in config.layer_bits:
        found, exactness = matching(wish.pattern, nodes)
        layers = [n for n in found if _is_layer(n)]
        for node in layers:
            wishes.setdefault(str(node.name), []).append((exactness, wish))
        if not found:
            problems.append(_no_match("--bits", wish.pattern, nodes))
        elif not layers:
            problems.append(
                f"--bits {wish.pattern!r} means {found[0].op_type} '{found[0].name}', which has no weights; bits are for layers "
                f"({', '.join(WEIGHTED_OPS)}). Other operators can be left in float with --keep-float."
            )
    if problems:
        raise ConfigError(problems)
    return Control(kept=kept, bits={name: _strongest(found) for name, found in wishes.items()})


def refuse_vain_bits(graph: ir.Model, config: PlacementConfig, float_nodes: Mapping[str, str]) -> None:
    """Raise ConfigError for bits that are given to layers all of which stay float; `float_nodes` has them, with the reason."""
    problems = []
    for wish in config.layer_bits:
        layers = [n for n in matching(wish.pattern, list(graph.graph))[0] if _is_layer(n)]
        if all(str(n.name) in float_nodes for n in layers):
            first = layers[0]
            problems.append(
                f"--bits {wish.pattern!r} is without effect: {first.op_type} '{first.name}' stays float, "
                f"{float_nodes[str(first.name)]}. Leave that --bits out."
            )
    if problems:
        raise ConfigError(problems)


def _is_layer(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type in WEIGHTED_OPS


def matching(pattern: str, nodes: Sequence[ir.Node]) -> tuple[list[ir.Node], Exactness]:
    """Return the nodes that `pattern` means, topological, and how exactly it does."""
    if named := [n for n in nodes if n.name == pattern]:
        return named, Exactness.NAME
    if typed := [n for n in nodes if n.op_type == pattern]:
        return typed, Exactness.OPERATOR
    return [n for n in nodes if fnmatch.fnmatchcase(str(n.name), pattern)], Exactness.GLOB


def _strongest(wishes: Sequence[tuple[Exactness, LayerBits]]) -> LayerBits:
    most = max(exactness for exactness, _ in wishes)
    equal = [bits for exactness, bits in wishes if exactness == most]
    return LayerBits(
        pattern=equal[0].pattern if len(equal) == 1 else ", ".join(b.pattern for b in equal),
        wbits=max(b.wbits for b in equal),
        abits=max(b.abits for b in equal),
    )


def _no_match(option: str, pattern: str, nodes: Sequence[ir.Node]) -> str:
    known = {name.lower(): name for node in nodes for name in (node.op_type, str(node.name))}
    near = [known[low] for low in difflib.get_close_matches(pattern.lower(), known, _SUGGESTIONS)]
    hint = f"near: {', '.join(repr(name) for name in near)}" if near else "`genie-onnx inspect -v` lists all nodes"
    return f"{option} {pattern!r} means no node of the network (as quantized: constants and BatchNormalization folded); {hint}."
