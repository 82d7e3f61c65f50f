"""How good model files are on the user's samples, run by onnxruntime as a user's program runs them: one pass for all models.

samples, batch by batch -> each model -> top-1 and top-5, or the user's own metric -> figures, differences, intervals
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genie_onnx.data import PathLike, Samples, listed, open_images, open_labelled
from genie_onnx.errors import ConfigError, DataError
from genie_onnx.evaluation.evaluation import Evaluation, ModelEvaluation
from genie_onnx.evaluation.subjects import Subject, Taking, load_subjects
from genie_onnx.events import Step, Tally
from genie_onnx.framing import Framing, LayoutChoice
from genie_onnx.machine.device import choose_device
from genie_onnx.preprocessing import Order, Preprocessing
from genie_onnx.spellings import renamed_arguments, up_to_date
from genie_onnx.validate import Classification, Measured, Provider, cuda_works, has_cuda

BATCH = 16  # samples that are decoded and run at once
_SHIFTED = {1: "seem to begin with one for the background", -1: "seem to lack the first one of the labels"}


@renamed_arguments(order="channel_order")
def evaluate(
    models: PathLike | Sequence[PathLike],
    data: PathLike | Sequence[PathLike] = (),
    *,
    labels: PathLike | None = None,
    classes: PathLike | None = None,
    label_offset: int = 0,
    metric: Callable[..., Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channel_order: Order = "rgb",
    framing: Framing | None = None,
    input_size: tuple[int, int] | None = None,
    layout: LayoutChoice = "auto",
    limit: int | None = None,
    set_inputs: Mapping[str, Sequence[float]] | None = None,
    provider: Literal["auto", "cpu", "cuda"] = "auto",
    progress: Callable[[Step], None] = lambda step: None,
) -> Evaluation:
    """Return top-1 and top-5 of models on labelled samples, or what a metric of your own says of them, with 95 % intervals.

    Args:
        models: one ONNX file, float or quantised, or several: each is compared with the first, sample by sample.
        data: class-folder trees, npz files with labels, or with `labels` the folders that hold the pictures; for a `metric`
            anything that `quantize` takes. Read batch by batch: all of it may be larger than memory.
        labels: a CSV of path and label, or a text of the same (data.labels).
        classes: a file with the names of the classes in the order of the model's outputs; without it, names are sorted.
        label_offset: added to every label: 1 where the model has a class for the background before all others.
        metric: a function or a class (validate.measure) that is called with the outputs and what is known of the samples.
        mean: of the model's preprocessing, as `std` and `channel_order` (genie_onnx.preprocessing).
        framing: how pictures get the model's size; None: scaled to cover it, cut at the centre.
        input_size: (H, W), where the model leaves them open.
        layout: of the models' input; auto: what each graph tells.
        limit: at most so many samples, spread over the whole.
        set_inputs: numbers for inputs beside the image (graph.fix_inputs); a model without them needs none.
        provider: of onnxruntime; auto: cuda where that works and torch sees a GPU.
        progress: is told a Step of stage "evaluate" at most twice a second; an iteration is a sample.

    Raises ModelError, ConfigError and DataError for what cannot be used, RunError where onnxruntime fails.

    >>> import genie_onnx
    >>> found = genie_onnx.evaluate(["digits.onnx", "digits.quant.onnx"], "digits_test.npz")
    >>> found.samples, found.top1
    (500, 0.986)
    >>> found.models[1].figures["top-1"].low > 0.9
    True
    """
    paths, data = [Path(model) for model in listed(models)], listed(data)
    _check(paths, labels, metric, classes, label_offset)
    place = _place(provider)
    subjects = load_subjects(paths, input_size or (framing.crop if framing else None), layout, set_inputs or {}, place)
    given = Preprocessing.of(mean, std, channel_order, framing)
    unsaid, raw = mean is None and std is None, all(subject.taking.raw for subject in subjects)
    if raw and not unsaid:
        raise ConfigError(
            "a model that takes uint8 pixels normalises them by itself: leave out --mean and --std, and of --preprocess all but "
            "--resize and --crop"
        )
    opened = {
        taking: _open(taking, data, labels, classes, metric is None or labels is not None, given, limit)
        for taking in dict.fromkeys(subject.taking for subject in subjects)
    }
    samples = next(iter(opened.values()))
    if not len(samples):
        raise DataError("there are no samples to evaluate on")
    notices = _input_notices(paths, subjects) if unsaid and samples.pixels and not raw else ()
    names = samples.classes
    if metric is None:
        judged = _classified(subjects, opened, label_offset, progress)
        notices += _label_notices(judged[0], label_offset, len(names), classes)
        if len(names) != judged[0].classes:  # a list that begins with label 0
            names = (*map(str, range(label_offset)), *names[max(0, -label_offset) :])
        found = [_accuracy(path, judge, judged[0]) for path, judge in zip(paths, judged, strict=True)]
    else:
        measured = _measured(subjects, opened, metric, progress)
        found = [_own(path, judge, measured[0]) for path, judge in zip(paths, measured, strict=True)]
    return Evaluation(
        samples=len(samples),
        provider=place,
        models=tuple(found),
        names=tuple(samples.names),
        classes=names,
        notices=notices,
    )


def _open(
    taking: Taking,
    data: Sequence[PathLike],
    labels: PathLike | None,
    classes: PathLike | None,
    labelled: bool,
    preprocessing: Preprocessing,
    limit: int | None,
) -> Samples:
    """Open at most `limit` samples in the form that a model takes."""
    if taking.raw:
        preprocessing = replace(preprocessing, mean=(0.0,), std=(1 / 255,))
    if labelled:
        samples = open_labelled(data, taking.shape, preprocessing, labels=labels, classes=classes, limit=limit)
    else:
        samples = open_images(data, taking.shape, preprocessing, limit=limit)
    if taking.raw and not samples.all_pixels:
        raise DataError(
            "the model takes uint8 pixels, and some of the data are floating-point arrays: save them as uint8, 0..255"
        )
    return samples


def _check(
    paths: Sequence[Path],
    labels: PathLike | None,
    metric: Callable[..., Any] | None,
    classes: PathLike | None,
    label_offset: int,
) -> None:
    problems = [] if paths else ["no model was given"]
    if metric is not None and label_offset:
        problems.append("--label-offset is for top-1; a metric is given the labels as they are")
    if metric is not None and classes is not None and labels is None:
        problems.append("--classes is for top-1 and for --labels: a metric is not given the names of class folders as labels")
    if problems:
        raise ConfigError(problems)


def _place(provider: Literal["auto", "cpu", "cuda"]) -> Provider:
    if provider == "auto":
        return "cuda" if choose_device("auto").type == "cuda" and cuda_works() else "cpu"
    if provider == "cuda" and not has_cuda():
        raise ConfigError(
            "--provider cuda: this onnxruntime has no CUDA; uninstall onnxruntime, install onnxruntime-gpu, or use --provider cpu"
        )
    return provider


def _batches(opened: Mapping[Taking, Samples], progress: Callable[[Step], None]) -> Iterator[dict[Taking, np.ndarray]]:
    """Yield the same samples in each form that a model takes, float32 [n, C, H, W]."""
    total = len(next(iter(opened.values())))
    tell = Tally(progress, Step(stage="evaluate", iterations=total))
    done = 0
    for batches in zip(*(samples.batches(BATCH) for samples in opened.values()), strict=True):
        yield {taking: batch.numpy() for taking, batch in zip(opened, batches, strict=True)}
        done += len(batches[0])
        tell(done)


def _classified(
    subjects: Sequence[Subject], opened: Mapping[Taking, Samples], offset: int, progress: Callable[[Step], None]
) -> list[Classification]:
    labels = next(iter(opened.values())).labels.numpy() + offset
    judged = [Classification(labels) for _ in subjects]
    for batches in _batches(opened, progress):
        for subject, judge in zip(subjects, judged, strict=True):
            judge.add(subject(batches[subject.taking]))
    return judged


def _measured(
    subjects: Sequence[Subject], opened: Mapping[Taking, Samples], metric: Callable[..., Any], progress: Callable[[Step], None]
) -> list[Measured]:
    measured = [Measured(metric) for _ in subjects]
    known = next(iter(opened.values())).targets(BATCH)
    for batches, targets in zip(_batches(opened, progress), known, strict=True):
        outputs = [subject(batches[subject.taking]) for subject in subjects]
        for found, judge in zip(outputs, measured, strict=True):
            judge.add(found, {**targets, "first": outputs[0]})
    return measured


def _accuracy(path: Path, judge: Classification, first: Classification) -> ModelEvaluation:
    alone = judge is first
    return ModelEvaluation(
        model=str(path),
        figures=judge.figures(),
        against_first={} if alone else judge.against(first),
        agreement=None if alone else judge.agreement(first),
        columns=judge.columns,
        confusions=tuple(judge.confusions()),
    )


def _own(path: Path, judge: Measured, first: Measured) -> ModelEvaluation:
    return ModelEvaluation(
        model=str(path),
        figures=judge.figures(),
        against_first={} if judge is first else judge.against(first),
        agreement=None,
        columns=judge.columns,
        confusions=(),
    )


def _input_notices(paths: Sequence[Path], subjects: Sequence[Subject]) -> tuple[str, ...]:
    """Say how pictures are fed where nobody said it, and how the run had them that made one of the models."""
    fed = "Pictures are fed as pixel / 255, in 0..1"
    for path, subject in zip(paths, subjects, strict=True):
        settings = up_to_date(json.loads(subject.session.metadata.get("genie_onnx.settings", "{}")))
        had = [(option, settings.get(option)) for option in ("mean", "std")]
        if any(numbers for _, numbers in had):
            words = " ".join(f"--{option} {','.join(f'{n:g}' for n in numbers)}" for option, numbers in had if numbers)
            return (f"{fed}, but the run that made {path.name} had {words}: give the same here.",)
    return (f"{fed}. If the models expect another range, give --mean and --std, or --preprocess.",)


def _label_notices(first: Classification, offset: int, names: int, classes: PathLike | None) -> tuple[str, ...]:
    """Say where labels seem to be another model's. `names`: how many classes the samples know by name."""
    notices = []
    by = first.better_offset()
    if by is not None:
        notices.append(
            f"Labels shifted by {by:+d} fit better: the model's classes {_SHIFTED[by]}. Try --label-offset {offset + by}."
        )
    if names and first.classes not in (names, names + offset):
        sorted_names = f"their sorted names count as {offset} to {offset + names - 1}; --classes FILE gives the model's order"
        notices.append(
            f"The model has {first.classes} classes, "
            + (f"the data {names}: {sorted_names}." if classes is None else f"{classes} {names}: is it the right list?")
        )
    return tuple(notices)
