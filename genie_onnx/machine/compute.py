"""Where torch computes, how precisely, and whether the steps of a loop are captured in a CUDA graph.

fp32   IEEE single precision throughout: the reference
tf32   convolutions and matrix products of a GPU round their operands to 10 bits of mantissa; results stay float32
bf16   they round operands and results to 7 bits (torch.autocast); parameters, step sizes and losses stay float32, and what
       products of float32 are left are those of tf32
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor

from genie_onnx.config import Precision, QuantizeConfig
from genie_onnx.errors import ConfigError, RunError
from genie_onnx.machine.device import choose_device, memory_budget
from genie_onnx.machine.memory import Budget, is_out_of_memory
from genie_onnx.machine.team import ALONE, Team

WARM_UP = 3  # calls before a capture: libraries choose their kernels and make their workspaces in the first ones

T = TypeVar("T")


@dataclass(frozen=True)
class Compute:
    """A device and how it is used. `graph` has a meaning on CUDA only. `budget`: what large tensors may take, None: any.
    `team`: the processes that share the work."""

    device: torch.device
    precision: Precision = "fp32"
    graph: bool = True
    budget: Budget | None = None
    team: Team = ALONE

    @contextmanager
    def products(self) -> Iterator[None]:
        """Compute convolutions and matrix products inside at `precision`, which is that of the whole process meanwhile.

        For forward passes: their gradients are computed in the types that these had.
        """
        # Weights are new in every step, so there is nothing to keep their rounded copies for.
        low = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False)
        with self._float32(), low:
            yield

    @contextmanager
    def _float32(self) -> Iterator[None]:
        """Multiply float32 on a GPU as `precision` says, gradients included."""
        flags = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]  # not in torch's stub
        before = [flag.fp32_precision for flag in flags]
        try:
            for flag in flags:
                flag.fp32_precision = "ieee" if self.precision == "fp32" else "tf32"
            yield
        finally:
            for flag, value in zip(flags, before, strict=True):
                flag.fp32_precision = value

    def repeated(self, step: Callable[..., T], generators: Sequence[torch.Generator] = ()) -> Callable[..., T]:
        """Return `step` to be called over and over with tensors of the same shapes: as it is, or captured (`_Captured`).

        On a GPU all of it computes at `precision`, backward passes too.
        """
        if self.device.type != "cuda":
            return step

        def precise(*inputs: Tensor) -> T:
            with self._float32():
                return step(*inputs)

        return _Captured(precise, generators, self.device) if self.graph else precise


class _Captured(Generic[T]):
    """A function of tensors on a GPU, called three times as it is, and from then on replayed as a CUDA graph.

    What it returns is overwritten by the next call. It may read and write tensors of its own, draw from `generators`, and
    must not wait for the GPU. A replay does what the call would have done, random numbers included.
    """

    def __init__(self, step: Callable[..., T], generators: Sequence[torch.Generator], device: torch.device) -> None:
        self._step, self._generators, self._device = step, generators, device
        self._calls = 0
        self._inputs: list[Tensor] = []
        self._result: T | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream(device)

    def __call__(self, *inputs: Tensor) -> T:
        with torch.cuda.device(self._device):  # streams and captures are those of the current device
            return self._called(*inputs)

    def _called(self, *inputs: Tensor) -> T:
        if self._graph is not None:
            for own, new in zip(self._inputs, inputs, strict=True):
                own.copy_(new, non_blocking=True)
            self._graph.replay()
            return cast(T, self._result)
        self._calls += 1
        if self._calls <= WARM_UP:  # on a stream of its own, as the capture will be (torch's notes on CUDA graphs)
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                result = self._step(*inputs)
            torch.cuda.current_stream().wait_stream(self._stream)
            return result
        self._inputs = [x.clone() for x in inputs]
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        # thread_local: a thread that reads samples ahead may allocate meanwhile
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._result = self._step(*self._inputs)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200]
            raise RunError(
                f"a step of this model cannot be captured as a CUDA graph: use --no-graph, and please report it ({reason})"
            ) from error
        self._graph = graph
        graph.replay()  # a capture computes nothing
        return self._result


def choose_compute(config: QuantizeConfig, memory: str | None = None, team: Team = ALONE) -> Compute:
    """Return what `config` asks for on this machine, with the budget of `memory` (device.memory_budget).

    Raises ConfigError where the machine does not have it.
    """
    device = choose_device(config.device, team)
    budget = memory_budget(memory, device, team.neighbours)
    return Compute(device, choose_precision(config.precision, device), config.cuda_graph, budget, team)


def choose_precision(name: Precision | None, device: torch.device) -> Precision:
    """Return the precision of `name`, or for None the one that loses nothing measurable on `device` and is fastest.

    Raises ConfigError where the device cannot do it.
    """
    if device.type == "cuda":
        if name == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise ConfigError(f"--precision bf16: {torch.cuda.get_device_name(device)} has no bfloat16; use tf32 or fp32")
        return name or "tf32"
    if name == "tf32":
        raise ConfigError("--precision tf32 is a format of NVIDIA GPUs; on a CPU use fp32, or bf16 where it has it")
    able = has_bf16()
    if name == "bf16" and not able:
        raise ConfigError("--precision bf16: this CPU has neither AMX nor AVX512-BF16, it would only be slower; use fp32")
    return name or ("bf16" if able else "fp32")


def has_bf16() -> bool:
    """Whether the CPU computes products of bfloat16 in hardware."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16") or found.get("bf16"))
