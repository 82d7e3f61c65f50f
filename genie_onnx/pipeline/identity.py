"""What makes a run this run, so that a run directory belongs to one; and the machine, on which last bits depend."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from typing import Any

import torch

from genie_onnx.config import QuantizeConfig
from genie_onnx.images.kept import Calibration
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.report import versions


def planned_identity(prepared: Prepared, config: QuantizeConfig) -> dict[str, Any]:
    """Return what makes a run this run: the model, every setting, statistics from another file. The "data" are not read yet."""
    settings = dataclasses.asdict(config)
    # Codes are the same in whatever form they are written: exporting again takes seconds.
    settings["target"] = settings["target"]["constraints"]
    del settings["cuda_graph"], settings["layout"]
    identity: dict[str, Any] = {"model": prepared.digest, "data": None, "shape": list(prepared.shape), "settings": settings}
    if prepared.layout != "nchw":
        identity["layout"] = prepared.layout
    if prepared.borrowed:
        arrays = [array.tobytes() for b in prepared.borrowed for array in (b.mean, b.std)]
        identity["statistics"] = hashlib.sha256(b"".join(arrays)).hexdigest()
    return identity


def run_identity(prepared: Prepared, config: QuantizeConfig, given: Calibration | None) -> dict[str, Any]:
    """Return what makes a run this run: what is known of it when it is planned, and the data."""
    digest = None if given is None else hashlib.sha256(given.images.contiguous().numpy().data).hexdigest()
    return {**planned_identity(prepared, config), "data": digest}


def machine(compute: Compute) -> dict[str, str]:
    """Return what numbers may depend on in their last bits: versions, the device, the precision that it has where none is asked
    for, the numbers of threads and processes."""
    device = compute.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        **versions(),
        "device": f"{device.type} {name}",
        "precision": compute.precision,
        "threads": str(torch.get_num_threads()),
        "processes": str(compute.team.size),
    }
