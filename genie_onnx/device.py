"""Where the torch part of a run happens, and how much memory there is."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from genie_onnx.config import Preset
from genie_onnx.errors import ConfigError
from genie_onnx.memory import Budget, parse_sizes

FREE_SHARE = 0.75  # of the memory that is free when a run begins, where the user says nothing
# What a container or a job may take, cgroup v2 and v1. A file that is not there, "max" and 2^63 are no limit.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def choose_device(name: str) -> torch.device:
    """Return the device of `name`: auto (CUDA where there is one, else the CPU), cpu, cuda or cuda:N. Raises ConfigError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise ConfigError(f"--device must be auto, cpu, cuda or cuda:N, not {name!r}")
    if kind == "cuda":
        count = torch.cuda.device_count()
        if count == 0:
            raise ConfigError(f"--device {name}: torch sees no CUDA device here (torch {torch.__version__}); use --device cpu")
        if int(index or 0) >= count:
            raise ConfigError(f"--device {name}: torch sees {count} CUDA device(s), cuda:0 to cuda:{count - 1}")
    return torch.device(name)


def default_preset(device: str) -> Preset:
    """Return the preset for a user who names none: balanced on a GPU, fast on a CPU. Raises ConfigError as `choose_device`."""
    return "balanced" if choose_device(device).type == "cuda" else "fast"


def memory_budget(text: str | None, device: torch.device) -> Budget:
    """Return the budget that `text` (memory.parse_sizes) means on `device`; None: a share of the memory that is free now.

    One size is for the device that computes; with two the second is for the machine beside a GPU. Raises ConfigError.
    """
    sizes = () if text is None else parse_sizes(text)
    if device.type != "cuda":
        if len(sizes) > 1:
            raise ConfigError(f"--memory-budget {text}: two sizes are for a GPU and the machine; on the CPU there is only one")
        return Budget(sizes[0] if sizes else _free_on_host())
    host = sizes[1] if len(sizes) > 1 else _free_on_host()
    return Budget(sizes[0] if sizes else int(FREE_SHARE * torch.cuda.mem_get_info(device)[0]), host)


def _free_on_host() -> int:
    own = psutil.Process().memory_info().rss
    limits = [int(file.read_text()) - own for file in _LIMITS if file.is_file() and file.read_text().strip().isdecimal()]
    return int(FREE_SHARE * max(0, min([psutil.virtual_memory().available, *limits])))
