"""What a run is asked for: one value from the public functions to where the model, the machine and the run directory are chosen.

quantize(...), plan(...), distill(...), inspect(...)  -> Request -> prepared model, compute, source.json of the run directory
export(...), html_report(...) of a run directory      <- Request <- source.json
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from genie_onnx.config import QuantizeConfig, from_json
from genie_onnx.data import PathLike
from genie_onnx.machine.compute import Compute, choose_compute
from genie_onnx.machine.team import ALONE, Team
from genie_onnx.preparation.bn_file import with_bn_from
from genie_onnx.preparation.prepare import Prepared, Source, prepare
from genie_onnx.requirements import Requirements


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `quantize`, where they are described; other functions have some of them."""

    model: Source
    config: QuantizeConfig = field(default_factory=QuantizeConfig)
    output: PathLike | None = None
    data: tuple[PathLike, ...] = ()
    input_size: tuple[int, int] | None = None
    run_dir: PathLike | None = None
    bn_from: PathLike | None = None
    set_inputs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    memory_budget: str | None = None
    requirements: Requirements = field(default_factory=Requirements)
    command: str | None = None
    team: Team = ALONE

    def prepared(self) -> Prepared:
        """Load, check and analyse the model. Raises ModelError and ConfigError with everything that is wrong."""
        config = self.config
        constraints = config.target.constraints
        found = prepare(self.model, config.placement, self.input_size, self.set_inputs, constraints, config.layout)
        return with_bn_from(found, self.bn_from)

    def compute(self) -> Compute:
        """Return what the run computes on. Raises ConfigError where this machine does not have it."""
        return choose_compute(self.config, self.memory_budget, self.team)

    def source(self) -> dict[str, Any]:
        """Return what tells how the run is started, as JSON: for going on with it, and for exporting it again."""
        return {
            "model": None if isinstance(self.model, onnx.ModelProto) else str(Path(self.model).absolute()),
            "input_size": self.input_size,
            "set_inputs": {name: list(numbers) for name, numbers in self.set_inputs.items()},
            "config": dataclasses.asdict(self.config),
            "command": self.command,
            "folder": str(Path.cwd()),
            "process": os.getpid(),
            "host": platform.node(),
        }


def request_from(source: Mapping[str, Any], model: Path) -> Request:
    """Return the request that wrote `source` of a run directory, of the model that lies at `model` now.

    Raises KeyError, TypeError or ValueError where it is damaged, ConfigError where its settings are none.
    """
    size = source["input_size"]
    return Request(
        model=model,
        config=from_json(json.dumps(source["config"])),
        input_size=None if size is None else (int(size[0]), int(size[1])),
        set_inputs=dict(source["set_inputs"]),
    )
