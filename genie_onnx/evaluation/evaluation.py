"""What `evaluate` finds, as records, as plain data and as CSV."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genie_onnx.machine.atomic import write_text
from genie_onnx.validate import Confusion, Figure, PairedDifference


@dataclass(frozen=True, kw_only=True)
class ModelEvaluation:
    """One model. Differences are this model less the first one, whose own are {}."""

    model: str
    figures: dict[str, Figure]  # top-1 and top-5 in 0..1 (top-5 for more than five classes), or what the metric has
    against_first: dict[str, PairedDifference]
    agreement: float | None  # share 0..1 of the samples whose predicted class is that of the first model; None with a metric
    columns: dict[str, np.ndarray]  # [N], of each sample: label and predicted (class indices), or the metric's numbers
    confusions: tuple[Confusion, ...]  # the most frequent first; () with a metric


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All models on the same samples."""

    samples: int
    provider: str  # cpu or cuda: where onnxruntime ran them
    models: tuple[ModelEvaluation, ...]
    names: tuple[str, ...]  # of the samples: picture files, or file[index]
    classes: tuple[str, ...]  # names by class index; () where they are not known
    notices: tuple[str, ...]

    @property
    def top1(self) -> float:
        """The share 0..1 that the first model has right."""
        return self.models[0].figures["top-1"].value

    @property
    def top5(self) -> float | None:
        """The share 0..1 whose label is among the first model's five best; None for fewer than six classes."""
        found = self.models[0].figures.get("top-5")
        return None if found is None else found.value

    def to_json(self) -> dict[str, Any]:
        """Return the figures, differences and notices as plain data: nothing of single samples."""
        models = []
        for found in self.models:
            pairs = {name: _plain(pair) for name, pair in found.against_first.items()}
            figures = {name: _plain(figure) for name, figure in found.figures.items()}
            models.append({"model": found.model, "figures": figures, "against_first": pairs, "agreement": found.agreement})
        return {"samples": self.samples, "provider": self.provider, "models": models, "notices": list(self.notices)}

    def class_name(self, index: int) -> str:
        """Return what a class is called: its index where no names are known."""
        return self.classes[index] if 0 <= index < len(self.classes) else str(index)

    def save_predictions(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV with a line a sample: its name, its label if it has one, and what each model says of it."""
        shared = [name for name in self.models[0].columns if name == "label"]
        own = [(found, name) for found in self.models for name in found.columns if name != "label"]
        headings = ["image", *shared, *(f"{name} by {found.model}" for found, name in own)]
        columns = [self.names, *(self.models[0].columns[name] for name in shared), *(found.columns[name] for found, name in own)]
        _write(Path(path), headings, zip(*columns, strict=True))

    def save_confusion(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV with a line for each pair of classes that a model confused, the most frequent first."""
        rows = [
            (found.model, pair.label, self.class_name(pair.label), pair.predicted, self.class_name(pair.predicted), pair.count)
            for found in self.models
            for pair in found.confusions
        ]
        _write(Path(path), ["model", "label", "label name", "predicted", "predicted name", "count"], rows)


def _plain(figure: Figure) -> dict[str, float | int | None]:
    """Return the fields; JSON has neither NaN nor infinity."""
    return {name: value if value is None or math.isfinite(value) else None for name, value in asdict(figure).items()}


def _write(path: Path, headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    write_text(path, text.getvalue())
