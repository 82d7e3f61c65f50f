"""The calibration images of a run in its directory: what is finished is kept, and taken from there again.

A file that is damaged is made again, which is said.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genie_onnx.errors import RunError
from genie_onnx.events import Notice
from genie_onnx.images.choice import HELD_BACK, Kind
from genie_onnx.machine.atomic import write_npz, write_text
from genie_onnx.run.directory import RunDirectory
from genie_onnx.synthesis import save_contact_sheet
from genie_onnx.validate.quality import LEAST, JudgedOn

_DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)  # what numpy says of an npz that is not whole


@dataclass(frozen=True)
class Calibration:
    """`images` to calibrate on and others, `held_back`, to judge on: float32 [N, C, H, W] each, in the model's input space."""

    images: Tensor
    held_back: Tensor
    held_back_kind: Kind
    input_range: tuple[float, float]  # what the model's input spans when real images are shown to it
    headroom: float  # how much further than these images real ones reach inside the network (reconstruct.calibrate)
    given: int = 0  # so many of `images`, the first ones, somebody took

    @property
    def judges(self) -> Judges:
        """What the result is judged on."""
        return Judges(self.held_back, self.held_back_kind, self.images[: min(self.given, HELD_BACK)])


@dataclass(frozen=True)
class Judges:
    """The images that a result is compared on, `held_back`, and those that say whether it is of any use: real ones, if there
    are some. float32 [n, C, H, W] each."""

    held_back: Tensor
    kind: Kind
    given: Tensor  # some that it was calibrated on and that somebody took

    @property
    def decisive(self) -> tuple[Tensor, JudgedOn]:
        """The images that decide about the use of the result, and what they are."""
        if self.kind == "data" and (len(self.held_back) >= LEAST or not len(self.given)):
            return self.held_back, "held-back"
        return (self.given, "calibration") if len(self.given) else (self.held_back, "made")


def save_images(calibration: Calibration, kind: str, run: RunDirectory) -> None:
    """Write the images to `run` as a contact sheet and, last, as npz (in the model's input space: `--data` takes it).

    `kind` says what they are, as `Choice.images` does. The rest of `calibration` is there too.
    """
    save_contact_sheet(calibration.images.numpy(), run.contact_sheet)
    write_npz(
        run.images,
        images=calibration.images.numpy(),
        layout="nchw",  # also where the model's input is not
        kind=kind,
        held_back=calibration.held_back.numpy(),
        held_back_kind=calibration.held_back_kind,
        input_range=calibration.input_range,
        given=calibration.given,
        headroom=calibration.headroom,
    )


def saved_judges(run: RunDirectory) -> Judges:
    """Return the images that the finished `run` was judged on. Raises RunError where its file is not whole."""
    try:
        with np.load(run.images, allow_pickle=False) as arrays:
            kind = str(arrays["held_back_kind"])
            if kind not in get_args(Kind):
                raise RunError(f"{run.images} has images of an unknown kind, {kind!r}")
            given = arrays["images"][: min(_given(arrays), HELD_BACK)]
            return Judges(torch.from_numpy(arrays["held_back"]), cast(Kind, kind), torch.from_numpy(given))
    except _DAMAGED as error:
        raise RunError(f"{run.images} does not hold the images of a finished run: {error!r}") from error


def saved_calibration(run: RunDirectory, shape: tuple[int, int, int], progress: Callable[[Notice], None]) -> Calibration | None:
    """Return what `save_images` wrote to `run`; None where there is nothing, or nothing whole."""
    if not run.images.exists():
        return None
    try:
        judges = saved_judges(run)
        with np.load(run.images, allow_pickle=False) as arrays:
            low, high = map(float, arrays["input_range"])
            headroom, given = float(arrays["headroom"]), _given(arrays)
        return Calibration(_images(run.images, shape), judges.held_back, judges.kind, (low, high), headroom, given)
    except (*_DAMAGED, RunError) as error:
        progress(Notice(f"The images of this run are put together again: {' '.join(str(error).split())}."))
        return None


def _given(arrays: Mapping[str, npt.NDArray[Any]]) -> int:
    """Return how many of the images somebody took; runs of earlier versions do not say, and are judged as if nobody had."""
    return int(arrays["given"]) if "given" in arrays else 0


def _images(path: Path, shape: tuple[int, int, int], count: int | None = None) -> Tensor:
    """Return the images in an npz file of ours, [count, *shape]. Raises ValueError, or one of _DAMAGED, where it is not whole."""
    with np.load(path, allow_pickle=False) as arrays:
        images = arrays["images"]
    wanted = (len(images) if count is None else count, *shape)
    if images.dtype != np.float32 or images.shape != wanted or not np.isfinite(images).all():
        raise ValueError(f"it holds {images.dtype} {list(images.shape)}, or numbers that are not finite, and not {list(wanted)}")
    return torch.from_numpy(images)


def finished_batches(
    run: RunDirectory, sizes: Sequence[int], shape: tuple[int, int, int], progress: Callable[[Notice], None]
) -> dict[int, Tensor]:
    """Return the batches that an earlier run left in `run`, and write down there how large all of them are."""
    write_text(run.batches, json.dumps(sizes))
    done = {}
    for index, size in enumerate(sizes):
        path = run.image_batch(index)
        try:
            done[index] = _images(path, shape, size)
        except FileNotFoundError:
            continue
        except _DAMAGED as error:
            progress(Notice(f"{path} is damaged and is made again ({' '.join(str(error).split())})."))
    return done
