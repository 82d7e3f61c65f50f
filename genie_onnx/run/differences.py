"""In what a run differs from the one that a run directory belongs to, said as the user would change it.

{"settings": {"placement": {"wbits": 4}}}, {"settings": {"placement": {"wbits": 2}}}  ->  --wbits was 4 and is now 2
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# Of settings whose option of `genie-onnx quantize` has another name than they; the others are --their-name.
OPTIONS = {
    "placement.layer_bits": "--bits",
    "distill.iterations": "--distill-iters",
    "distill.refine_iterations": "--distill-iters",
    "distill.batch_size": "--distill-batch",
    "reconstruct.iterations": "--recon-iters",
    "reconstruct.drop_probability": "--drop",
    "closed_form.wide_bits": "--moments",
    "target.outputs": "--round-outputs",
    "bit_goal.average": "--avg-bits",
    "bit_goal.share": "--target-size",
    "bit_goal.bytes": "--target-size",
    "bit_goal.drop": "--max-drop",
    "cuda_graph": "--graph",
}
# Settings without an option.
UNOPTIONED = frozenset(
    {
        *(f"distill.{name}" for name in ("latent_size", "latent_lr", "generator_lr", "pixel_lr", "most_pixels")),
        *(f"reconstruct.{name}" for name in ("weight_scale_lr", "activation_scale_lr", "bias_lr", "learn_weight_scale")),
        *(f"reconstruct.{name}" for name in ("warmup", "beta_start", "beta_end")),
        *(f"closed_form.{name}" for name in ("columns", "columns_per_feature")),
    }
)
SWITCHED = "settings.closed_form"  # a section that one option switches as a whole: --closed-form
DIGITS = 12  # of a digest, to tell two by


def differences(old: Mapping[str, Any], new: Mapping[str, Any], old_model: str, new_model: str) -> list[str]:
    """Return a phrase for every difference between two identities (pipeline.identity) of models with these names."""
    changed = dict(_changes(old, new, ""))
    phrases: dict[str, None] = {}  # a set in order: two settings may have one option
    for name, (before, after) in changed.items():
        match name:
            case "model":
                phrase = f"the model was {old_model} (SHA-256 {before[:DIGITS]}...) and is now {new_model} ({after[:DIGITS]}...)"
                if old_model == new_model:
                    phrase += ": it was changed, or --set-input was"
            case "data" | "statistics":
                phrase = _files("--data" if name == "data" else "--bn-from", before, after)
            case "shape":
                sizes = ["x".join(map(str, shape)) for shape in (before, after)]
                phrase = f"the input was {sizes[0]} and is now {sizes[1]} (--input-size)"
            case _:
                phrase = f"{option(name.removeprefix('settings.'))} was {_shown(before)} and is now {_shown(after)}"
        phrases[phrase] = None
    return list(phrases)


def option(setting: str) -> str:
    """Return the option of the command line behind a setting, or the setting itself where it has none."""
    if setting in OPTIONS:
        return OPTIONS[setting]
    if setting in UNOPTIONED:
        return setting
    section, _, name = setting.rpartition(".")
    return f"--target ({name})" if section == "target" else f"--{name.replace('_', '-')}"


def _changes(old: Any, new: Any, where: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the path of every entry in which two JSON values differ, with both values."""
    if where == SWITCHED and (old is None) != (new is None):
        yield where, (old is not None, new is not None)
    elif {type(old), type(new)} in ({dict}, {dict, type(None)}):  # None: a section that was not given
        old, new = old or {}, new or {}
        for key in dict.fromkeys([*old, *new]):
            yield from _changes(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    elif old != new:
        yield where, (old, new)


def _files(name: str, before: str | None, after: str | None) -> str:
    if before is None or after is None:
        return f"{name} was {'not ' if before is None else ''}given and is {'not ' if after is None else ''}given now"
    return f"what {name} holds was {before[:DIGITS]}... (SHA-256) and is now {after[:DIGITS]}..."


def _shown(value: Any) -> str:
    match value:
        case None | []:
            return "not given"
        case bool():
            return "on" if value else "off"
        case list():
            return ",".join(map(_shown, value))
        case {"pattern": pattern, "wbits": wbits, "abits": abits}:
            return f"{pattern}={wbits}/{abits}"
        case _:
            return str(value)
