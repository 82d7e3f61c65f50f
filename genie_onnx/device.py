"""Where the torch part of a run happens."""

from __future__ import annotations

import torch

from genie_onnx.config import Preset
from genie_onnx.errors import ConfigError


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
