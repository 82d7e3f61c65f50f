"""Results as tables on the terminal."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from genie_onnx import BitPlan, Estimate, ImagePlan, Plan, Quality, QuantizeConfig, Result, unfit_for_portable

LONG = 1800.0  # seconds, from which on a shorter run is proposed
NAMED = 2  # of nodes that share a reason
WORTH_SAYING = 1e-3  # share of codes that differ over a whole network, from which on it is explained

console = Console(highlight=False, markup=False, soft_wrap=True)


def table(*headings: str) -> Table:
    """Return an empty table; its first column is text, the others numbers."""
    empty = Table(box=None, pad_edge=False, header_style="bold")
    for k, heading in enumerate(headings):
        empty.add_column(heading, justify="left" if k == 0 else "right", overflow="fold")
    return empty


def size(count: float) -> str:
    """Return a number of bytes in MB or kB."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def by_bits(bits: Iterable[int]) -> str:
    """Say how many have how many bits: "18 at 4 bits, 2 at 8 bits"."""
    return ", ".join(f"{n} at {b} bits" for b, n in sorted(Counter(bits).items()))


def rounding(config: QuantizeConfig) -> str:
    """Say how weights are rounded."""
    iterations, epochs = config.reconstruct.iterations, config.last_pass
    if config.closed_form is None:
        stages = [f"{iterations} reconstruction steps a block" if iterations else "nearest rounding"]
    else:
        stages = ["closed form", f"then {iterations} learning steps a block" if iterations else "nothing is learned"]
    return ", ".join(stages + [f"a last pass of {epochs} epochs"] * (epochs > 0))


def not_for(target: str, value_bits: Iterable[int]) -> str | None:
    """Say which tools must not be given a file of `target`; None where none is known."""
    if target not in ("portable", "onnxruntime") or min(value_bits, default=8) >= 8:
        return None
    tools = ", ".join(unfit_for_portable())
    return f"values below 8 bits have a Clip on their codes, so not for {tools}: with --for TOOL the form is its own"


def plan(todo: ImagePlan, expected: Estimate, preset: str | None) -> None:
    """Say what a run is about to do, and what it is expected to take; `preset` in words, where one was chosen."""
    config, placement, compute = todo.config, todo.prepared.placement, todo.compute
    if isinstance(todo, Plan):
        goal = config.bit_goal
        weights = by_bits(w.bits for w in placement.weights) if goal is None else f"bits chosen for {goal} once there are images"
        console.print(
            f"{len(placement.weights)} weights ({weights}) in {todo.learned_blocks} blocks, "
            f"{len(placement.activations)} activation grids ({by_bits(a.bits for a in placement.activations)}), "
            f"on {compute.device} ({compute.precision})"
        )
    origin = {
        "data": f"yours, at most {config.samples}",
        "amplified": f"all of yours, and distilled ones up to {config.samples}, {config.distill.iterations} steps a batch",
        "distilled": f"{config.samples} distilled, {config.distill.iterations} steps a batch",
        "refined": f"{config.samples} procedural, refined by {config.distill.refine_iterations} steps a batch",
        "procedural": f"{config.samples} procedural",
    }[todo.choice.kind]
    console.print(f"images: {origin} ({todo.choice.reason})")
    steps = [rounding(config)] if isinstance(todo, Plan) else []
    console.print(": ".join([f"preset {preset}"] * (preset is not None) + steps))
    for notice in todo.notices:
        console.print(f"note: {notice}")
    if isinstance(todo, Plan):
        if (said := not_for(config.target.name, (a.bits for a in placement.activations))) is not None:
            console.print(f"note: {said}")
        for line in grouped(placement.float_nodes, "nodes"):
            console.print(f"kept float: {line}")
    console.print(f"time: {expected.text('CPU' if compute.device.type == 'cpu' else 'GPU')}")
    if expected.seconds > LONG and isinstance(todo, Plan):
        console.print("      for a first look: --samples 32 --recon-iters 50")
    output = [f"output: {todo.output}"] if isinstance(todo, Plan) else []
    console.print("   ".join([*output, f"run directory: {todo.run_dir}"]))


def bit_plan(chosen: BitPlan) -> None:
    """Print the bits of each block, and what each would do to the outputs at each width; and the values with more than asked."""
    widths = sorted(chosen.blocks[0].damage)
    rows = table("block", "weights", "bits", *(f"at {width} bits" for width in widths))
    for block in chosen.blocks:
        harm = (f"{block.damage[width]:.2g}" for width in widths)
        rows.add_row(block.block, str(block.parameters), str(block.bits), *harm)
    console.print(f"\nbits for {chosen.goal}; the damage of each block is the {chosen.unit}:")
    console.print(rows)
    if chosen.wider:
        console.print(value_bits(chosen))
    few = f" ({len(chosen.wider)} of {len(chosen.values)} with {chosen.wider[0].bits})" if chosen.wider else ""
    activations = f"{chosen.abits}{few}"
    drop = "" if chosen.drop is None else f", {chosen.drop:.1f} points lost before anything is learned"
    console.print(
        f"{chosen.average:.2f} bits on average, activations {activations}: {size(chosen.bytes)} "
        f"({100 * chosen.bytes / chosen.bytes_at_8:.0f} % of 8 bits everywhere){drop}\n"
    )


def value_bits(chosen: BitPlan) -> Table:
    """Return the values with more bits than were asked for, and what each alone would do to the outputs with either."""
    widths = sorted({width for value in chosen.wider for width in value.damage})
    rows = table("value", "elements", "bits", *(f"at {width} bits" for width in widths))
    for value in chosen.wider:
        harm = (f"{value.damage[width]:.2g}" if width in value.damage else "" for width in widths)
        rows.add_row(value.values[0], str(value.elements), str(value.bits), *harm)
    return rows


def result(done: Result) -> None:
    """Print the report of a finished run."""
    report = done.report
    console.print()
    parity(report.parity)
    target = report.settings["target"]
    kernels = report.parity["kernels"]
    if target["in_onnxruntime"] and kernels["layers"] is not None:
        without = {node: why for node, why in report.kept_float.items() if node not in kernels["float_layers"]}
        layers(kernels["layers"], kernels["float_layers"], without)
    else:
        console.print(
            f"made for {target['name']} (onnxruntime was only used to check it; with other runtimes: genie-onnx verify)"
        )
    rows = table(
        f"output, on {report.comparison['samples']} {_HELD_BACK[report.held_back]} samples",
        "SQNR dB",
        "cosine",
        "top-1 agreement",
    )
    for output in report.comparison["outputs"]:
        agreement = "" if output["agreement"] is None else f"{100 * output['agreement']:.1f} %"
        rows.add_row(output["name"], f"{output['sqnr_db']:.1f}", f"{output['cosine']:.4f}", agreement)
    console.print(rows)
    quality(done.quality)
    show_sizes(report.sizes)
    console.print(
        f"{done.output}   ({report.seconds:.0f} s; report in {done.report_file.name}, images and codes in {done.run_dir})"
    )
    if done.left_aside is not None:
        console.print(f"note: {done.left_aside} beside it is what an earlier run put aside; it is not of this one")
    if done.page is not None:
        console.print(f"to look at: {done.page}")


def grouped(reasons: Mapping[str, str], noun: str, every: bool = False) -> Iterator[str]:
    """Yield a line for each reason of `reasons` (node -> why), which names a single node, of several (plural `noun`) the first
    two, or all with `every`."""
    for why in dict.fromkeys(reasons.values()):
        nodes = [node for node in reasons if reasons[node] == why]
        names = nodes if every or len(nodes) <= NAMED else [*nodes[:NAMED], "..."]
        yield f"{nodes[0]}: {why}" if len(nodes) == 1 else f"{len(nodes)} {noun} ({', '.join(names)}): {why}"


def parity(found: Mapping[str, Any]) -> None:
    """Print whether a file computes what was simulated, given validate.Parity as plain data, and what differs all the same."""
    verdict = "the file computes what was simulated" if found["ok"] else "BROKEN"
    samples = "1 sample" if found["samples"] == 1 else f"{found['samples']} samples"
    said = [f"{found['weights']} weights identical"]
    if found["values"]:
        said.append(f"codes that differ, each layer for itself: {found['flip_rate']:.1e}")
    console.print(f"parity with the simulation, {samples}: {verdict} ({', '.join(said)})")
    if found["whole_flip_rate"] >= WORTH_SAYING:
        console.print(
            f"  over the whole network {100 * found['whole_flip_rate']:.2g} % of the codes differ: one that lies on the boundary "
            "between two falls to either side with the last bit of a float, and moves what later layers read"
        )
    for output in found["outputs"]:
        if output["arithmetic"]:
            console.print(
                f"  output {output['name']} is off by {output['max_error']:.2g} of at most {output['magnitude']:.2g}: that is "
                "how exactly onnxruntime computes its functions, in the float model as well"
            )


def layers(count: int, floats: Mapping[str, str], without_weights: Mapping[str, str], every: bool = False) -> None:
    """Print how many of `count` weighted layers run in integer kernels, and why `floats` (layer -> why) and products
    `without_weights` do not; with `every` name, where there are many."""
    console.print(f"layers in integer kernels of onnxruntime: {count - len(floats)} of {count}")
    for line in grouped(floats, "layers", every):
        console.print(f"  float: {line}")
    for line in grouped(without_weights, "products", every):
        console.print(f"  float, and no layers: {line}")


def quality(found: Quality) -> None:
    """Print the verdict on a file, and what lies behind it."""
    console.print(f"verdict: {found}")
    if found.cause is not None:
        console.print(f"cause: {found.cause}")
    if found.bad and found.saturated is not None and found.unused is not None:
        console.print(
            f"beyond their grids at most {_percent(found.saturated.share)} ('{found.saturated.name}'), codes never used at most "
            f"{_percent(found.unused.share)} ('{found.unused.name}')"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def next_steps(model: Path, done: Result) -> None:
    """Print the commands that tell how good the result is."""
    files = shlex.join([str(model), str(done.output)])
    console.print(f"next: genie-onnx compare {files}     which layers lose most, and what to try")
    if any(output["agreement"] is not None for output in done.report.comparison["outputs"]):
        console.print(f"      genie-onnx evaluate {files} --data LABELLED     accuracy of both")


def show_sizes(found: Mapping[str, int | None]) -> None:
    """Print the sizes of a float and a quantised file."""
    before, packed, after = found["float_file"], found["packed"], found["file"]
    assert before is not None
    assert packed is not None
    assert after is not None
    zipped = [found["float_gzip"], found["file_gzip"]]
    gzip = "" if None in zipped else f"; gzip {size(zipped[0] or 0)} -> {size(zipped[1] or 0)}"
    console.print(f"size: {size(before)} float -> {size(after)} in the file, {size(packed)} of weights at their true bits{gzip}")


_HELD_BACK = {"data": "held-back", "procedural": "procedural", "distilled": "distilled"}
