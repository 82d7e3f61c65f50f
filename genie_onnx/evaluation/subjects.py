"""Model files as `evaluate` runs them: as they are, by onnxruntime, on samples in whatever form each of them takes.

samples float32 [n, C, H, W] -> NHWC where the model takes that -> float32, float16, float64, or pixels uint8 -> outputs by name
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genie_onnx import graph
from genie_onnx.errors import InputError, ModelError, RunError
from genie_onnx.framing import Layout, LayoutChoice
from genie_onnx.validate import Provider, Session

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}


@dataclass(frozen=True)
class Taking:
    """What a model takes. Samples are read once for all models that take the same."""

    shape: tuple[int, int, int]  # C, H, W of a sample
    raw: bool  # pixels 0..255 as they are: the input is uint8


@dataclass(frozen=True)
class Subject:
    """A model that is loaded, to be called with samples."""

    session: Session
    taking: Taking
    layout: Layout

    def __call__(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs for samples float32 [n, C, H, W]. Raises RunError where onnxruntime fails."""
        (name,) = self.session.inputs
        feed = graph.as_fed(samples, self.layout)
        if self.taking.raw:
            feed = np.rint(feed)
        feed = np.ascontiguousarray(feed, _TYPES[self.session.types[name]])
        try:
            return self.session({name: feed})
        except RunError as error:
            if len(feed) == 1:
                raise
            one = ",".join(map(str, (1, *feed.shape[1:])))
            raise RunError(
                f"{error}. If the model does not take {len(feed)} samples at once, fix its batch: python -m "
                f"onnxruntime.tools.make_dynamic_shape_fixed --input_name {name} --input_shape {one} MODEL FIXED"
            ) from error


def load_subjects(
    paths: Sequence[Path],
    input_size: tuple[int, int] | None,
    layout: LayoutChoice,
    set_inputs: Mapping[str, Sequence[float]],
    provider: Provider,
) -> list[Subject]:
    """Load model files whose only input, less `set_inputs`, is an image. The other arguments are those of accuracy.evaluate.

    Raises ModelError with what is wrong with any of them.
    """
    problems: list[str] = []
    subjects = []
    for path in paths:
        try:
            subjects.append(_load(path, input_size, layout, set_inputs, provider))
        except InputError as error:
            problems += error.problems
        except RunError as error:
            problems.append(f"{path}: {error}")
    if problems:
        raise ModelError(list(dict.fromkeys(problems)))
    return subjects


def _load(
    path: Path,
    input_size: tuple[int, int] | None,
    layout: LayoutChoice,
    set_inputs: Mapping[str, Sequence[float]],
    provider: Provider,
) -> Subject:
    if not path.is_file():
        raise ModelError(f"{path}: this is no file.")
    session, found = Session(path, provider=provider), layout
    if set_inputs and len(session.inputs) > 1:
        model = graph.load(path)
        graph.fix_inputs(model, set_inputs)
        session, found = Session(model, provider=provider), graph.image_layout(model) if layout == "auto" else layout
    if len(session.inputs) != 1:
        names = ", ".join(map(repr, session.inputs))
        way_out = graph.way_out(list(graph.load(path).graph.inputs))
        raise ModelError(f"{path} has {len(session.inputs)} inputs ({names}); one image input is supported. {way_out}")
    (name,) = session.inputs
    if session.types[name] not in _TYPES:
        raise ModelError(f"{path}: its input is a {session.types[name]}; known are {', '.join(_TYPES)}.")
    dims = session.shapes[name]
    if len(dims) != 4:
        raise ModelError(f"{path}: its input must be [N, C, H, W] or [N, H, W, C], but it is {_text(dims)}.")
    found = graph.file_layout(path) if found == "auto" else found
    channels, height, width = dims[1:] if found == "nchw" else (dims[3], dims[1], dims[2])
    if channels is None:
        raise ModelError(f"{path}: its input {_text(dims)} leaves the channels open, read as {found}: see --layout.")
    given = input_size or (None, None)
    height, width = given[0] if height is None else height, given[1] if width is None else width
    if height is None or width is None:
        raise ModelError(f"{path} leaves height or width of its input open: give a size with --input-size HxW.")
    if input_size is not None and input_size != (height, width):
        raise ModelError(
            f"{path} takes {height}x{width}, and --input-size or --crop is {input_size[0]}x{input_size[1]}; or its layout is not "
            f"{found} (--layout)."
        )
    return Subject(session, Taking((channels, height, width), session.types[name] == "tensor(uint8)"), found)


def _text(dims: Sequence[int | None]) -> str:
    return f"[{', '.join('?' if d is None else str(d) for d in dims)}]"
