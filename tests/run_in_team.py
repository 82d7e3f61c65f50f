"""Several processes that work on one run, as torchrun starts them: with its variables in their environment.

Processes are forked from one that has torch imported, which saves seconds each.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import genie_onnx
from genie_onnx.run.directory import RunDirectory


def together(size: int, model: Path, output: Path, killed: int | None = None, **settings: Any) -> list[int | None]:
    """Run quantize in `size` processes and return their exit codes. What process k raises is written to `output`.error<k>.

    killed: the rank of a process that is killed (SIGKILL) as soon as it adds up numbers with the others for the second block.
    """
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["genie_onnx.pipeline.quantize", "torch._dynamo"])  # torch's Adam imports the second
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        context.Process(target=_quantize, args=(rank, size, port, killed, model, output, settings)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def _quantize(rank: int, size: int, port: int, killed: int | None, model: Path, output: Path, settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if killed == rank:
        add_up, first = dist.all_reduce, RunDirectory(output.with_suffix(".genie")).loss(0)

        def all_reduce(tensor: torch.Tensor) -> None:
            if first.exists():
                os.kill(os.getpid(), signal.SIGKILL)
            add_up(tensor)

        dist.all_reduce = all_reduce
    try:
        with genie_onnx.join_team("cpu") as team:
            genie_onnx.quantize(model, output, team=team, **settings)
    except genie_onnx.GenieError as error:
        output.with_suffix(f".error{rank}").write_text(f"{type(error).__name__}: {error}")
        os._exit(1)
