"""Running ONNX models in onnxruntime, with any value of the graph as output.

In: a model (path, bytes, ModelProto or ir.Model) and feeds by input name. Out: arrays by value name. Default session options
unless said otherwise, because that is what a user's program gets. Where the batch dimension is fixed, the samples are
run batch by batch and put together again; what no input reaches is the same for all of them, and stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort

from genie_onnx.errors import DataError, RunError
from genie_onnx.validate.lend import lend_weights
from genie_onnx.validate.reached import unreached
from genie_onnx.validate.runtime_errors import runtime_errors
from genie_onnx.validate.saturation import has_vnni

Array = npt.NDArray[Any]
File = bytes | onnx.ModelProto | Path
"""A model as a file has it, which is loaded as a user's program loads it."""
Model = File | ir.Model
"""The large weights of an ir.Model are lent to the session (lend.py)."""

Provider = Literal["cpu", "cuda"]
_TINY = '<ir_version: 8, opset_import: ["" : 13]> tiny (float[4] x) => (float[4] y) { y = Abs(x) }'
_PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}


class Session:
    """A loaded model; calling it with feeds runs it. Loading is the slow part, so keep it for many batches."""

    def __init__(
        self, model: Model, outputs: Sequence[str] | None = None, optimise: bool = True, provider: Provider = "cpu"
    ) -> None:
        """Load `model` so that it yields `outputs` (names of any values; None: the model's own outputs).

        On `provider` cuda, nodes without a kernel there run on the CPU. Raises RunError where CUDA cannot be had.
        """
        self._lent: dict[str, ort.OrtValue] = {}
        if isinstance(model, ir.Model):
            model, self._lent = lend_weights(model)
        if outputs is None:
            source = model if isinstance(model, Path) else _bytes(model)
        else:
            proto = as_proto(model)
            self._check(proto, outputs)
            source = expose(proto, outputs).SerializeToString()
        self._source = source
        self._optimised = optimise
        with runtime_errors("load", self._unoptimised):
            if provider == "cuda":
                ort.preload_dlls()  # those of torch's wheels are found; https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
            self._session = self._opened(optimise, provider)
        if self._session.get_providers()[0] != _PROVIDERS[provider][0]:  # it falls back to the CPU with a warning only
            raise RunError(
                f"onnxruntime {ort.__version__} cannot use CUDA here: its libraries or a GPU are missing (genie-onnx doctor); "
                "--provider cpu needs neither"
            )
        self._inputs = {i.name: i.shape for i in self._session.get_inputs()}
        self.inputs: tuple[str, ...] = tuple(self._inputs)
        self.types: dict[str, str] = {i.name: i.type for i in self._session.get_inputs()}
        own = [o.name for o in self._session.get_outputs()]
        self.outputs: tuple[str, ...] = tuple(own if outputs is None else outputs)

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """The dimensions of each input, None for open ones."""
        return {name: tuple(d if isinstance(d, int) else None for d in shape) for name, shape in self._inputs.items()}

    @cached_property
    def constants(self) -> frozenset[str]:
        """The outputs that no input reaches."""
        return unreached(self._source)

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself: its `metadata_props`."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs by name for `feeds`, float32 [n, ...] by input name, any n."""
        if set(feeds) != set(self._inputs):
            raise DataError(f"the model's inputs are {sorted(self._inputs)}, the data is for {sorted(feeds)}")
        batch = next((shape[0] for shape in self._inputs.values() if shape and isinstance(shape[0], int)), None)
        if batch is None or batch == len(next(iter(feeds.values()))):
            return self._run(feeds)
        samples = len(next(iter(feeds.values())))
        parts = [self._run(_batch(feeds, start, batch)) for start in range(0, samples, batch)]
        for name, array in parts[0].items():
            if name not in self.constants and (array.ndim == 0 or len(array) != batch):
                raise DataError(
                    f"'{name}' has shape {array.shape} for a batch of {batch}: its first dimension does not count samples, so "
                    f"this model can only be run on {batch} samples at a time"
                )
        return {
            name: parts[0][name] if name in self.constants else np.concatenate([part[name] for part in parts])[:samples]
            for name in self.outputs
        }

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        with runtime_errors("run", self._unoptimised and partial(self._run_unoptimised, feeds)):
            return dict(zip(self.outputs, self._session.run(list(self.outputs), dict(feeds)), strict=True))

    def _opened(self, optimise: bool, provider: Provider) -> ort.InferenceSession:
        options = session_options(optimise)
        if self._lent:
            options.add_external_initializers(list(self._lent), list(self._lent.values()))
        return ort.InferenceSession(self._source, options, providers=_PROVIDERS[provider])

    @property
    def _unoptimised(self) -> Callable[[], ort.InferenceSession] | None:
        """Load the same once more with all graph optimisations off; None where that is what is loaded."""
        return partial(self._opened, False, "cpu") if self._optimised else None

    def _run_unoptimised(self, feeds: Mapping[str, Array]) -> None:
        self._opened(False, "cpu").run(list(self.outputs), dict(feeds))

    @staticmethod
    def _check(proto: onnx.ModelProto, outputs: Sequence[str]) -> None:
        graph = proto.graph
        known = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        known.update(name for node in graph.node for name in node.output)
        missing = [name for name in outputs if name not in known]
        if missing:
            raise DataError(f"the model has no value {', '.join(repr(name) for name in missing)}")


def run(
    model: Model, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None, optimise: bool = True
) -> dict[str, Array]:
    """Run `model` once: `Session(model, outputs, optimise)(feeds)`.

    `optimise=False` computes every node as written, without fusing. Raises DataError where feeds or outputs do not
    fit the model, RunError where onnxruntime fails.
    """
    return Session(model, outputs, optimise)(feeds)


def has_cuda() -> bool:
    """Whether this onnxruntime was built for CUDA; a GPU may be missing all the same."""
    return _PROVIDERS["cuda"][0] in ort.get_available_providers()


def cuda_works() -> bool:
    """Whether a model can be loaded on CUDA: onnxruntime is built for it, and finds a GPU and libraries of the right version."""
    if not has_cuda():
        return False
    try:
        Session(onnx.parser.parse_model(_TINY), provider="cuda")
    except RunError:
        return False
    return True


def session_options(optimise: bool) -> ort.SessionOptions:
    """Return default options, only quiet; with `optimise` False, all graph optimisations off."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and said in our words
    if has_vnni() is False:  # what is judged is the file: what saturates on such a CPU is said of its own accord (saturation.py)
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def as_proto(model: File) -> onnx.ModelProto:
    """Return `model` as a ModelProto with its tensors in memory."""
    if isinstance(model, onnx.ModelProto):
        return model
    return onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load_model(model)


def expose(proto: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """Return a copy of `proto` whose outputs are exactly `outputs`, in this order; onnxruntime finds their types itself."""
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    own = {v.name: v for v in proto.graph.output}
    del probe.graph.output[:]
    probe.graph.output.extend(own.get(name, onnx.ValueInfoProto(name=name)) for name in outputs)
    return probe


def _bytes(model: bytes | onnx.ModelProto) -> bytes:
    return model if isinstance(model, bytes) else model.SerializeToString()


def _batch(feeds: Mapping[str, Array], start: int, size: int) -> dict[str, Array]:
    """Return `size` samples from `start` on; behind the end, the last sample is repeated."""
    samples = len(next(iter(feeds.values())))
    rows = np.minimum(np.arange(start, start + size), samples - 1)
    return {name: array[rows] for name, array in feeds.items()}
