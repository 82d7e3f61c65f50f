"""Which images a run will use: decided before anything runs, with what a user should know about it.

data given                                            data
... fewer than wanted: --amplify, or very few         amplified: the data, and images distilled to go with it
no data, BatchNorm statistics (the model's or lent)   distilled
... of few of the convolutions                        refined: procedural, fitted to what is known, and plausible elsewhere
no data, none, a classifier of convolutions           refined: procedural, fitted to what the network plausibly expects
... distillation is off                               procedural, brought to what is known, or plausible, while rounding
no data, none, another network                        procedural
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from genie_onnx.config import QuantizeConfig
from genie_onnx.data import PathLike, Preprocess, Samples, open_images
from genie_onnx.errors import ConfigError, DataError
from genie_onnx.graph import class_scores
from genie_onnx.images.likely_input import PICTURES, better_input, painted_input
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.synthesis import is_picture

Kind = Literal["data", "amplified", "distilled", "refined", "procedural"]

AMPLIFIED = 16  # so few images or fewer are amplified unless told otherwise: 8 gain, 32 and 128 do not (benchmarks/RESULTS.md)
NOT_DISTILLED = "distilling has 0 steps"
FEW = 0.25  # of the convolutions: where statistics tell of fewer, images are free in most of the network
LEAST = 16  # images that are distilled, however large they are
HELD_BACK = 64  # samples kept for judging the result, when there are more than calibration takes
# Pixels that are painted together, to calibrate on and to judge on: gigabytes and minutes for pictures of a camera
MOST_PAINTED, MOST_JUDGED, LEAST_JUDGED = 2**27, 2**26, 8
EXPORT_CALL = "torch.onnx.export(model.eval(), x, file, optimize=False)"
LOST = (
    "The model has no BatchNormalization statistics to distil images from, so it is calibrated on made-up ones. At "
    "4-bit weights that usually costs next to nothing against distilled images, at 2 bits up to 2 points on shifted test "
    "images (measured on a CIFAR ResNet-20). Better: calibration images with --data; or --bn-from with a state_dict of the "
    f"model; or an export with BatchNorm kept: {EXPORT_CALL}"
)
"""What it costs that there are neither images nor statistics."""


@dataclass(frozen=True)
class Choice:
    """Where a run takes its images from, what they are, and what to tell the user about it."""

    kind: Kind
    images: str  # data, distilled, refined, procedural, or several of these joined by + : distilled images may be given as data
    reason: str
    notices: tuple[str, ...] = ()

    @property
    def made(self) -> bool:
        """Whether nobody took any of them; those that an earlier run made are made ones, also where they are given as data."""
        return "data" not in self.images.split("+")


def choose_images(prepared: Prepared, config: QuantizeConfig, data: Sequence[PathLike]) -> Choice:
    """Decide where images come from; of `data`, names and headers are read.

    Raises ConfigError where distillation is asked of a model without BatchNorm statistics, or --amplify without data, and
    DataError with every path that cannot be used.
    """
    input_statistics(prepared.shape, config)  # refuses numbers that do not fit the model, before anything is made
    if data:
        return _given(prepared, config, data)
    if config.amplify:
        raise ConfigError("--amplify makes more images of those given with --data, and none are given")
    if config.images == "procedural":
        notices = (*_procedural_notices(prepared, config), *_unused(prepared))
        return Choice("procedural", "procedural", "asked for with --images procedural", notices)
    if config.images == "refine":
        if not prepared.coverage.convolutions:
            raise ConfigError("--images refine needs convolutions, and the model has none: use --images procedural")
        notices = _procedural_notices(prepared, config)
        return Choice("refined", "refined", "asked for with --images refine", notices)
    brought = config.closed_form is not None and config.closed_form.match
    painted = not config.distill.iterations
    if config.images == "distill" and not config.distill.iterations:
        raise ConfigError("--images distill with 0 steps distils nothing: give --distill-iters 1 or more, or --images procedural")
    if prepared.statistics and config.images == "auto" and painted:
        then = f"they are brought to the {_known(prepared)} while rounding, layer by layer" if brought else NOT_DISTILLED
        return Choice("procedural", "procedural", then, (*_procedural_notices(prepared, config), *_coverage_notices(prepared)))
    if prepared.statistics and config.images == "auto" and _few(prepared) and _of_convolutions(prepared):
        reason = (
            f"there are {_known(prepared)}, which is few: painted images are fitted to these, and elsewhere to plausible ones"
        )
        return Choice("refined", "refined", reason, (*_procedural_notices(prepared, config), *_coverage_notices(prepared)))
    if prepared.statistics:
        return Choice("distilled", "distilled", f"there are {_known(prepared)}", _coverage_notices(prepared))
    lack = "its exporter folded them into the convolutions" if not prepared.batchnorms else "theirs are 0 and 1, never measured"
    if config.images == "distill":
        raise ConfigError(
            "--images distill needs BatchNormalization nodes with statistics, and this model has none: "
            f"{lack}. Ways out: export again with BatchNorm kept: {EXPORT_CALL}; or take the statistics from another file of "
            "the network with --bn-from; or give a handful of images with --data; or use --images procedural"
        )
    reason = f"the model has no BatchNormalization with statistics: {lack}"
    notices = (LOST, *_procedural_notices(prepared, config))
    if not _of_convolutions(prepared):
        return Choice("procedural", "procedural", f"{reason}; and most of its layers are no convolutions", notices)
    if painted:
        then = "they are brought to plausible ones while rounding" if brought else NOT_DISTILLED
        return Choice("procedural", "procedural", f"{reason}; {then}", notices)
    if class_scores(prepared.normalised) is None:  # refined ones served a detector no better (benchmarks/RESULTS.md)
        return Choice("procedural", "procedural", f"{reason}; and it is no classifier to refine them with", notices)
    return Choice("refined", "refined", reason, notices)


def judged_on(shape: tuple[int, int, int]) -> int:
    """Return how many images [C, H, W] = `shape` are made to judge a result on."""
    return min(HELD_BACK, max(LEAST_JUDGED, MOST_JUDGED // (shape[1] * shape[2])))


def with_images_that_pay(config: QuantizeConfig, choice: Choice, shape: tuple[int, int, int]) -> QuantizeConfig:
    """Return `config` with as many samples [C, H, W] = `shape` as are worth making (DistillConfig.most_pixels)."""
    most = config.distill.most_pixels
    if most is None or choice.kind not in ("distilled", "refined", "procedural"):
        return config
    most = MOST_PAINTED if choice.kind == "procedural" else most
    return replace(config, samples=min(config.samples, max(LEAST, most // (shape[1] * shape[2]))))


def input_statistics(
    shape: tuple[int, int, int], config: QuantizeConfig
) -> tuple[tuple[float, ...], tuple[float, ...]] | tuple[None, None]:
    """Return the mean and std that photographs have in the model's input space, or None twice where that space is not known."""
    if config.mean is None or config.std is None:
        return None, None
    # whatever size pictures have
    return Preprocess.of(shape, replace(config.preprocessing, framing=None)).statistics()


def made_kinds(data: Sequence[PathLike]) -> frozenset[str]:
    """Return what made the npz files in `data` that a run or `distill` wrote; empty for the user's own."""
    return frozenset(kind for path in data for kind in _kinds(Path(path)) if kind != "data")


def _given(prepared: Prepared, config: QuantizeConfig, data: Sequence[PathLike]) -> Choice:
    limit = config.samples + HELD_BACK
    opened = open_images(data, prepared.shape, config.preprocessing, layout=prepared.layout, limit=limit)
    notices: tuple[str, ...] = ()
    if opened.pixels and config.mean is None:
        notices = (
            "Pictures are fed to the model as pixel / 255, in 0..1. If it expects another range, give --mean and "
            "--std (e.g. 0.485,0.456,0.406 and 0.229,0.224,0.225).",
        )
    notices += _input_notices(prepared, config, opened)
    images = "+".join(sorted({kind for path in data for kind in _kinds(Path(path))}))
    count = len(opened)
    wanted = config.amplify
    if wanted is None:
        wanted = images == "data" and count <= AMPLIFIED and (bool(prepared.statistics) or _of_convolutions(prepared))
    if not wanted or count >= config.samples:
        if config.amplify:
            notices += (f"--amplify has nothing to do: {config.samples} images are wanted, and as many are given.",)
        return Choice("data", images, _number_given(count, config), (*notices, *_unused(prepared)))
    if not prepared.statistics and not prepared.coverage.missing:
        raise ConfigError("--amplify needs convolutions, whose statistics on the images are what more are distilled from")
    images = "+".join(sorted({*images.split("+"), "distilled"}))
    source = f"the statistics of all {prepared.coverage.total} convolutions on them"
    if prepared.statistics:
        source = f"{_known(prepared)}, and those of the other {len(prepared.coverage.missing)} on the images"
    return Choice(
        "amplified", images, f"{count} images were given; {config.samples - count} are distilled from {source}", notices
    )


def _number_given(count: int, config: QuantizeConfig) -> str:
    return f"{count} images were given" if count < config.samples + HELD_BACK else "more images were given"


def _input_notices(prepared: Prepared, config: QuantizeConfig, opened: Samples) -> tuple[str, ...]:
    """Say so where another preprocessing of the pictures fits the model much better."""
    if not opened.all_pixels or not prepared.statistics:
        return ()
    mean, std = config.mean or (0.0,), config.std or (1.0,)
    try:
        shown = next(opened.batches(PICTURES))
    except DataError:  # damaged pictures: all of them are named when all are loaded
        return ()
    hint = better_input(prepared, shown, mean, std)
    return () if hint is None else (hint,)


def _known(prepared: Prepared) -> str:
    """Say what there is to distil from."""
    borrowed = sum(b.measured for b in prepared.borrowed)
    own = len(prepared.statistics) - borrowed
    found = [f"{own} BatchNormalization nodes in the model"] if own else []
    found += [f"{borrowed} from --bn-from"] if borrowed else []
    return f"BatchNorm statistics of {prepared.coverage} ({' and '.join(found)})"


def _few(prepared: Prepared) -> bool:
    """Whether statistics tell of so few values that images distilled from them would be free in most of the network."""
    return _told(prepared) < FEW * prepared.coverage.total


def _told(prepared: Prepared) -> int:
    """Return how many values statistics tell of, those of layers and those of what sums and activations make of them."""
    return max(len(prepared.statistics), len(prepared.coverage.covered))


def _of_convolutions(prepared: Prepared) -> bool:
    """Whether at least half of the quantised layers are convolutions, whose statistics keep refined images plausible."""
    layers = len(prepared.placement.weights)
    return layers <= 2 * prepared.coverage.total


def _coverage_notices(prepared: Prepared) -> tuple[str, ...]:
    if 2 * _told(prepared) >= prepared.coverage.total:
        return ()
    return (
        f"Statistics are known of only {prepared.coverage}: images made from so few say little of the others. Better: "
        "--bn-from with a state_dict of the model; or some images, and --amplify; or an export with all BatchNorm kept: "
        f"{EXPORT_CALL}",
    )


def _unused(prepared: Prepared) -> tuple[str, ...]:
    if not prepared.borrowed:
        return ()
    return ("The statistics of --bn-from have no part in this run, because no images are distilled.",)


def _procedural_notices(prepared: Prepared, config: QuantizeConfig) -> tuple[str, ...]:
    notices = []
    if not is_picture(prepared.shape):
        notices.append(
            f"An input of {list(prepared.shape)} is taken for features, not for pictures: procedural samples are "
            "smooth noise, each channel for itself. A few samples of your own (--data FILE.npz) tell more."
        )
    if config.mean is None:
        notices.append(
            "Procedural images are given mean 0 and deviation 1 in each channel, which fits a model whose input is normalised. "
            "If it takes 0..1, -1..1 or 0..255, say so with --mean and --std (0..255: --mean 0 --std "
            f"0.003922).{_likely(prepared, config)}"
        )
    return tuple(notices)


def _likely(prepared: Prepared, config: QuantizeConfig) -> str:
    found = painted_input(prepared, config)
    if found is None:
        return ""
    return (
        f" Its first layers, too, saw something else in training (misfit {found.other:.2g}); {found.name} comes nearer "
        f"({found.misfit:.2g}), and the images are made so: {found.options}"
    )


def _kinds(path: Path) -> frozenset[str]:
    """Return what the images of `path` are: as `calibration.save_images` noted in the npz it wrote, else data."""
    if path.suffix.lower() == ".npz" and path.is_file():
        with np.load(path, allow_pickle=False) as arrays:
            try:
                noted = frozenset(str(arrays["kind"]).split("+")) if "kind" in arrays.files else frozenset[str]()
            except ValueError:  # an array of objects, and not one of ours
                noted = frozenset()
        if noted and noted <= {"data", "distilled", "refined", "procedural"}:
            return noted
    return frozenset({"data"})
