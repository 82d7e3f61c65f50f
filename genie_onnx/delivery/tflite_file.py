"""The .tflite file beside a QDQ file: its name, its bytes, and whether a model can have one at all.

-o model.onnx, model.quant.onnx (or none)  ->  that file, judged, and model.tflite
-o model.tflite                            ->  model.quant.onnx, judged, and model.tflite
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from genie_onnx import exporter, graph
from genie_onnx.data import PathLike
from genie_onnx.errors import ConfigError, ModelError
from genie_onnx.placement import Placement
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.qparams import QParams, QTensor
from genie_onnx.reconstruct import Codes
from genie_onnx.targets import Target

ENDING = ".tflite"
AUTHOR = "genie-onnx"  # what exporter.litert.convert names itself in the files


def tflite_path(output: Path) -> Path:
    """Return where the .tflite file of the QDQ file `output` lies."""
    return output.with_name(output.name.removesuffix(".onnx").removesuffix(".quant") + ENDING)


def onnx_path(tflite: Path) -> Path:
    """Return where the QDQ file of a `tflite` file lies: the first name that is there, else the first."""
    stem = tflite.name.removesuffix(ENDING)
    names = [tflite.with_name(f"{stem}{ending}") for ending in (".quant.onnx", ".onnx")]
    return next((name for name in names if name.is_file()), names[0])


def qdq_output(output: PathLike | None, target: Target) -> PathLike | None:
    """Return where the QDQ file goes that `output` asks for. Raises ConfigError for a .tflite file of a target that has none."""
    if output is None or not str(output).endswith(ENDING):
        return output
    if target.form.style != "tflite":
        raise ConfigError(
            f"the output {str(output)!r} is a .tflite file, which target {target.name} has none of: --target litert"
        )
    path = Path(output)
    return path.with_name(f"{path.name.removesuffix(ENDING)}.quant.onnx")


def require_own(path: Path, output: PathLike | None) -> None:
    """Raise ConfigError where the .tflite file of the QDQ file `path` would take the place of one that another program wrote,
    such as the float model of the same name, though `output` does not name it."""
    file = tflite_path(path)
    if output is not None and str(output).endswith(ENDING):
        return
    if file.is_file() and AUTHOR.encode() not in file.read_bytes():
        raise ConfigError(f"{file} would be replaced, and genie-onnx did not write it: name the output, such as -o other.tflite")


def to_tflite(proto: onnx.ModelProto) -> bytes:
    """Return the .tflite file of a QDQ file of fixed shapes.

    Raises ModelError with every node that cannot be written, ConfigError where the packages that know the format are missing.
    """
    try:
        from genie_onnx.exporter import litert
    except ModuleNotFoundError as error:
        if error.name not in ("tflite", "flatbuffers"):
            raise
        raise ConfigError(
            f'target litert needs the package {error.name}, which is not installed: pip install "genie-onnx[litert]"'
        ) from error
    return litert.to_tflite(proto)


def require_tflite(prepared: Prepared, target: Target) -> None:
    """Raise the ModelError of `to_tflite` before there are any codes: a rehearsal with codes that are all the same."""
    if target.form.style != "tflite":
        return
    try:
        proto = exporter.export(prepared.deploy, prepared.user, prepared.placement, _anything(prepared), target, {})
        to_tflite(exporter.fix_shapes(proto, graph.laid_out(prepared.shape, prepared.layout)))
    except ModelError as error:
        raise ModelError([f"target {target.name}: {problem}" for problem in error.problems]) from error


def _anything(prepared: Prepared) -> Codes:
    """Return codes for the whole placement, all of them 0, in steps of 1."""
    placement: Placement = prepared.placement
    weights = {}
    for spec in placement.weights:
        shape = prepared.deploy.graph.initializers[spec.value].shape
        assert shape is not None
        sizes = tuple(int(size) for size in shape.numpy())
        scale = np.ones(sizes[spec.axis], np.float32)
        centre = np.full(scale.shape, 2 ** (spec.bits - 1), np.int64)
        grid = QParams(bits=spec.bits, scale=scale, zero_point=centre, axis=spec.axis)
        weights[spec.value] = QTensor(codes=np.full(sizes, centre[0], np.uint8), qparams=grid)
    grids = {
        spec.name: QParams(bits=spec.bits, scale=np.ones((), np.float32), zero_point=np.zeros((), np.int64))
        for spec in placement.activations
    }
    return Codes(weights=weights, activations=grids)
