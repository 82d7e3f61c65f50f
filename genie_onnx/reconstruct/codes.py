"""What reconstruction yields: integer codes of weights, grids of activations; and their file (safetensors)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from genie_onnx.errors import RunError
from genie_onnx.machine.atomic import replacing
from genie_onnx.qparams import FloatArray, QParams, QTensor


@dataclass(frozen=True)
class Codes:
    """`weights` by initializer name, `activations` by the name of their ActivationSpec, `biases` (those that are not as in the
    model, in its shape) by initializer name."""

    weights: dict[str, QTensor] = field(default_factory=dict)
    activations: dict[str, QParams] = field(default_factory=dict)
    biases: dict[str, FloatArray] = field(default_factory=dict)

    def merged(self, other: Codes) -> Codes:
        """Return both together; what `other` has wins."""
        return replace(
            self,
            weights={**self.weights, **other.weights},
            activations={**self.activations, **other.activations},
            biases={**self.biases, **other.biases},
        )


def save(codes: Codes, path: Path) -> None:
    """Write `codes` to a safetensors file, whole or not at all."""
    tensors: dict[str, np.ndarray] = {}
    entries = []
    grids = [("weight", name, w.qparams) for name, w in codes.weights.items()]
    grids += [("activation", name, qparams) for name, qparams in codes.activations.items()]
    for k, (kind, name, qparams) in enumerate(grids):
        tensors[f"{k}.scale"] = qparams.scale
        tensors[f"{k}.zero_point"] = qparams.zero_point.astype(np.uint8)
        if kind == "weight":
            tensors[f"{k}.codes"] = np.ascontiguousarray(codes.weights[name].codes)
        entries.append({"kind": kind, "name": name, "bits": qparams.bits, "axis": qparams.axis})
    for k, (name, bias) in enumerate(codes.biases.items(), start=len(grids)):
        tensors[f"{k}.bias"] = np.ascontiguousarray(bias)
        entries.append({"kind": "bias", "name": name})
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"entries": json.dumps(entries)})


def load(path: Path) -> Codes:
    """Read what `save` wrote. Raises RunError where the file is not one of ours."""
    codes = Codes()
    try:
        with safe_open(path, "np") as file:
            for k, entry in enumerate(json.loads(file.metadata()["entries"])):
                if entry["kind"] == "bias":
                    codes.biases[entry["name"]] = file.get_tensor(f"{k}.bias")
                    continue
                qparams = QParams(
                    bits=entry["bits"],
                    scale=file.get_tensor(f"{k}.scale"),
                    zero_point=file.get_tensor(f"{k}.zero_point").astype(np.int64),
                    axis=entry["axis"],
                )
                if entry["kind"] == "weight":
                    codes.weights[entry["name"]] = QTensor(codes=file.get_tensor(f"{k}.codes"), qparams=qparams)
                else:
                    codes.activations[entry["name"]] = qparams
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} does not hold the codes of a run: {error}") from error
    return codes
