"""What a shell may complete an option or argument with, where click does not know it by itself. No torch: it is waited for."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from genie_onnx.errors import GenieError

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def folders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Directories: run directories."""
    return [CompletionItem(incomplete, type="dir")]


def devices(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What `--device` takes."""
    return [CompletionItem(name) for name in ("auto", "cpu", "cuda") if name.startswith(incomplete)]


def nodes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Operator types and nodes of MODEL."""
    operators = _operators(ctx)
    kinds = [CompletionItem(kind, help="all of this type") for kind in sorted(set(operators.values()))]
    named = [CompletionItem(name, help=kind) for name, kind in operators.items()]
    return [item for item in (*kinds, *named) if item.value.startswith(incomplete)]


def bits(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Layers of MODEL with 8 bits: what is tried first."""
    layers = [(f"{name}=8/8", kind) for name, kind in _operators(ctx).items() if kind in WEIGHTED]
    return [CompletionItem(value, help=kind) for value, kind in layers if value.startswith(incomplete)]


def _operators(ctx: click.Context) -> dict[str, str]:
    """Return the nodes of the MODEL on the command line; none where there is none yet, or it cannot be read."""
    from genie_onnx import node_operators

    # behind an option that still lacks its value, click leaves arguments as they came
    model = ctx.params.get("model") or next(iter(ctx.args), None)
    try:
        return {} if model is None else node_operators(model)
    except GenieError:  # a shell that completes is not the place to say so
        return {}
