"""Where the torch part of a run happens, and how much memory there is."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from genie_onnx.effort import Preset
from genie_onnx.errors import ConfigError
from genie_onnx.machine.memory import Budget, parse_sizes
from genie_onnx.machine.team import ALONE, Team

FREE_SHARE = 0.75  # of the memory that is free when a run begins, where the user says nothing
# What a container or a job may take, cgroup v2 and v1. A file that is not there, "max" and 2^63 are no limit.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def choose_device(name: str, team: Team = ALONE) -> torch.device:
    """Return the device of `name`: auto (CUDA where there is one, else the CPU), cpu, cuda or cuda:N. Raises ConfigError.

    In a team each process has a GPU of its own, from there on the current one.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise ConfigError(f"--device must be auto, cpu, cuda or cuda:N, not {name!r}")
    if kind == "cuda":
        count = torch.cuda.device_count()
        if count == 0:
            raise ConfigError(f"--device {name}: torch sees no CUDA device here (torch {torch.__version__}); use --device cpu")
        if int(index or 0) >= count:
            raise ConfigError(f"--device {name}: torch sees {count} CUDA device(s), cuda:0 to cuda:{count - 1}")
    if kind == "cuda" and team.size > 1:
        if index:
            raise ConfigError(f"--device {name}: with torchrun each process has a GPU of its own; use --device cuda")
        if team.neighbours > count:
            raise ConfigError(
                f"torchrun started {team.neighbours} processes on a machine with {count} GPU(s): use --nproc-per-node {count}, "
                "or --device cpu"
            )
        torch.cuda.set_device(team.place)
        return torch.device("cuda", team.place)
    return torch.device(name)


def default_preset(device: str) -> Preset:
    """Return the preset for a user who names none: balanced on a GPU, fast on a CPU. Raises ConfigError as `choose_device`."""
    return "balanced" if choose_device(device).type == "cuda" else "fast"


def memory_budget(text: str | None, device: torch.device, processes: int = 1) -> Budget:
    """Return the budget that `text` (memory.parse_sizes) means on `device`; None: a share of the memory that is free now.

    One size is for the device that computes; with two the second is for the machine beside a GPU. What is the machine's is
    divided among the `processes` on it. Raises ConfigError.
    """
    sizes = () if text is None else parse_sizes(text)
    if device.type != "cuda":
        if len(sizes) > 1:
            raise ConfigError(f"--memory-budget {text}: two sizes are for a GPU and the machine; on the CPU there is only one")
        step = sizes[0] // 2 if sizes else psutil.virtual_memory().total // 4
        return Budget((sizes[0] if sizes else _free_on_host()) // processes, step=step)
    host = (sizes[1] if len(sizes) > 1 else _free_on_host()) // processes
    free, total = torch.cuda.mem_get_info(device)
    return Budget(sizes[0] if sizes else int(FREE_SHARE * free), host, sizes[0] // 2 if sizes else total // 4)


def _free_on_host() -> int:
    own = psutil.Process().memory_info().rss
    limits = [int(file.read_text()) - own for file in _LIMITS if file.is_file() and file.read_text().strip().isdecimal()]
    return int(FREE_SHARE * max(0, min([psutil.virtual_memory().available, *limits])))
