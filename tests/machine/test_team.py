"""Several processes on one run: what each does, that together they do what one would, and how they end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import pytest
import torch
from run_in_team import together
from small_bn_net import small_bn_net
from team_of_threads import in_threads
from torch import Tensor, nn

import genie_onnx
from genie_onnx import DistillConfig, PlacementConfig, QuantizeConfig, ReconstructConfig
from genie_onnx.errors import ConfigError
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.device import choose_device, memory_budget
from genie_onnx.machine.team import ALL, LAUNCHER, Share, Team, launched
from genie_onnx.quant import MaskSource, fake_quantize, weight_grid
from genie_onnx.quant.masks import unpacked
from genie_onnx.reconstruct import Codes, load
from genie_onnx.reconstruct.learning_loop import BlockData, batch_share, optimise_block
from genie_onnx.reconstruct.learning_step import Fixed, Learned, Weight
from genie_onnx.reconstruct.store import Stored
from genie_onnx.reconstruct.student import Student
from genie_onnx.run.directory import RunDirectory

T = TypeVar("T")
CPU = torch.device("cpu")
EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.onnx"
TINY = QuantizeConfig(
    samples=14,
    placement=PlacementConfig(setting="qdrop"),  # a value of 4 bits, whose channels are equalised
    distill=DistillConfig(iterations=2, batch_size=5),  # batches of 5, 5 and 4
    reconstruct=ReconstructConfig(iterations=4, batch_size=5),
    precision="fp32",
    device="cpu",
)
BUDGET = "1kB"  # no value fits into memory, nor does a batch of images at once


@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_are_the_batch_in_order(size: int) -> None:
    shares = in_threads(size, lambda team: team.share(7))
    assert [k for share in shares for k in range(share.start, share.stop)] == list(range(7))
    assert sum(share.part for share in shares) == pytest.approx(1)
    assert max(share.part for share in shares) <= -(-7 // size) / 7
    with pytest.raises(ConfigError, match=f"{size} processes cannot divide steps on {size - 1} samples"):
        in_threads(size, lambda team: team.share(size - 1))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_what_is_made_in_batches_is_the_same_everywhere(size: int) -> None:
    makers: dict[int, int] = {}

    def action(team: Team) -> list[float]:
        def make(number: int) -> list[Tensor]:
            makers[number] = team.rank
            return [torch.tensor(10.0 * number)]

        return [float(made) for (made,) in team.divided(7, make)]

    assert in_threads(size, action) == [[10.0 * k for k in range(7)]] * size
    assert makers == {k: k % size for k in range(7)}


@pytest.mark.parametrize("elements", [1, 31, 32, 50, 129])  # of a sample: shares begin anywhere in a word
@pytest.mark.parametrize("keep", [0.5, 0.3, 1.0, 0.0])
def test_the_masks_of_shares_are_those_of_the_batch(elements: int, keep: float) -> None:
    def bits(share: Share) -> Tensor:
        count = elements * (7 if share is ALL else share.stop - share.start)
        masks = MaskSource(keep, torch.Generator().manual_seed(3), share)
        drawn = [masks.draw(count) for _ in range(2)]
        return torch.stack([torch.ones(count, dtype=torch.bool) if d is None else unpacked(d, count) for d in drawn])

    parts = [bits(Share(2 * k, min(2 * k + 2, 7), 7)) for k in range(4)]
    assert torch.equal(torch.cat(parts, 1), bits(ALL))


class Block(nn.Module):
    """A layer whose input is rounded at random."""

    def __init__(self, masks: MaskSource) -> None:
        super().__init__()
        self.masks = masks

    def forward(self, x: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor]:
        """Return [N, 7]."""
        return (fake_quantize(x, scale, 8, 15, self.masks.draw(x.numel())) @ weight.t(),)


@pytest.mark.parametrize(("size", "iterations"), [(2, 1), (3, 1), (2, 6)])
def test_a_divided_step_is_that_of_one_process(size: int, iterations: int) -> None:
    """With random masks, the rounding term, and a batch of 7 that cannot be divided evenly."""
    random = torch.Generator().manual_seed(0)
    value, x, noise = torch.randn(7, 10, generator=random), torch.randn(20, 10, generator=random), torch.randn(20, 10)
    data = BlockData((Stored(x),), (Stored(x + 0.1 * noise),), (Stored(x @ value.t()),), (1,))
    config = ReconstructConfig(iterations=iterations, batch_size=7, warmup=0.0, rounding_lr=0.1)

    def learn(team: Team) -> Learned:
        compute, random = Compute(CPU, team=team), torch.Generator().manual_seed(5)
        block = Block(MaskSource(0.5, random, batch_share(data, config, compute)))
        student = Student(block, ("x",), ("y",), ("w",), (), ("s",))  # type: ignore[arg-type]
        weights, scales = [Weight("w", value, 0, 3, weight_grid(value, 3))], {"s": torch.tensor(0.3)}
        fixed = Fixed({}, [], {})
        return optimise_block(student, data, weights, fixed, scales, config, compute, random, lambda *told: None)

    alone = learn(Team())
    for learned in in_threads(size, learn):
        assert torch.equal(learned.codes["w"], alone.codes["w"])
        assert torch.allclose(learned.scales["w"], alone.scales["w"], rtol=1e-6)
        assert learned.activations["s"].item() == pytest.approx(alone.activations["s"].item(), rel=1e-6)
        assert learned.loss == pytest.approx(alone.loss, rel=1e-5)


def environment(**changed: str | None) -> dict[str, str]:
    """What torchrun sets for the second of four processes, with changes; None: not set."""
    found = {
        "RANK": "1",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "here",
        "MASTER_PORT": "1",
    }
    return {name: value for name, value in {**found, **changed}.items() if value is not None}


def test_the_environment_says_who_one_is() -> None:
    found = launched(environment())
    assert (found["RANK"], found["WORLD_SIZE"], found["LOCAL_RANK"], found["LOCAL_WORLD_SIZE"]) == (1, 4, 1, 2)
    assert launched({})["WORLD_SIZE"] == 1
    with genie_onnx.join_team() as team:
        assert (team.rank, team.size) == (0, 1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        *(({name: None}, f"WORLD_SIZE is set .* {name} not") for name in LAUNCHER if name != "WORLD_SIZE"),
        ({"RANK": "one"}, "RANK=one"),
        ({"RANK": "-1"}, "RANK=-1"),
        ({"RANK": "4"}, "RANK=4, WORLD_SIZE=4"),
        ({"LOCAL_RANK": "2"}, "LOCAL_RANK=2, LOCAL_WORLD_SIZE=2"),
    ],
)
def test_half_an_environment_is_refused(changed: dict[str, str | None], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        launched(environment(**changed))


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    team = Team()
    team.size, team.place, team.neighbours = 4, 1, 2
    assert choose_device("auto", team) == choose_device("cuda", team) == torch.device("cuda", 1)
    assert current == [1, 1]
    assert choose_device("cpu", team) == CPU
    with pytest.raises(ConfigError, match="a GPU of its own"):
        choose_device("cuda:1", team)
    team.neighbours = 3
    with pytest.raises(ConfigError, match=r"3 processes on a machine with 2 GPU\(s\): use --nproc-per-node 2"):
        choose_device("cuda", team)


def test_the_memory_of_a_machine_is_divided() -> None:
    assert memory_budget("8GB", CPU, 4).compute == 2 * 10**9


def codes(run_dir: Path) -> Codes:
    """All codes and grids of a finished run."""
    run, found = RunDirectory(run_dir), Codes()
    for path in sorted(run.block(0).parent.glob("*.safetensors")):
        found = found.merged(load(path))
    return found.merged(load(run.grids))


def agree(one: Path, other: Path) -> None:
    """Check that two runs have the same images, and codes and scales that are equal up to the order of sums."""
    images = [np.load(RunDirectory(path).images)["images"] for path in (one, other)]
    assert np.array_equal(*images)
    a, b = codes(one), codes(other)
    assert a.weights.keys() == b.weights.keys()
    assert a.activations.keys() == b.activations.keys()
    assert a.biases.keys() == b.biases.keys()
    for name, tensor in a.weights.items():
        assert np.count_nonzero(tensor.codes != b.weights[name].codes) <= 1
        np.testing.assert_allclose(tensor.qparams.scale, b.weights[name].qparams.scale, rtol=1e-4)
    for name, grid in a.activations.items():
        np.testing.assert_allclose(grid.scale, b.activations[name].scale, rtol=1e-4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> genie_onnx.Result:
    """The run of one process, its model beside it."""
    folder, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    onnx.save(small_bn_net(), folder / "net.onnx")
    torch.set_num_threads(1)
    try:
        return genie_onnx.quantize(folder / "net.onnx", folder / "whole.onnx", config=TINY, memory_budget=BUDGET)
    finally:
        torch.set_num_threads(threads)


def test_two_processes_do_what_one_does(alone: genie_onnx.Result, tmp_path: Path) -> None:
    """Three batches of images, and steps on 5 samples: neither can be divided evenly. All values lie in files."""
    model, output = alone.output.with_name("net.onnx"), tmp_path / "two.onnx"
    assert together(2, model, output, config=TINY, memory_budget=BUDGET) == [0, 0]
    agree(alone.run_dir, tmp_path / "two.genie")
    assert not list((tmp_path / "two.genie").glob("values*"))
    tables = [RunDirectory(path).equalisation.read_text() for path in (alone.run_dir, tmp_path / "two.genie")]
    assert tables[0] == tables[1] != "{}"
    assert genie_onnx.status(tmp_path / "two.genie").stage == genie_onnx.status(alone.run_dir).stage


@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_process_that_is_killed_ends_all(rank: int, alone: genie_onnx.Result, tmp_path: Path) -> None:
    model, output = alone.output.with_name("net.onnx"), tmp_path / "two.onnx"
    exits = together(2, model, output, killed=rank, config=TINY, memory_budget=BUDGET)
    assert exits[rank] == -signal.SIGKILL
    assert exits[1 - rank] == 1
    assert "another process of this run has ended" in output.with_suffix(f".error{1 - rank}").read_text()
    assert not output.exists()
    assert genie_onnx.status(tmp_path / "two.genie").blocks_done == 1
    genie_onnx.quantize(model, output, config=TINY, memory_budget=BUDGET)
    agree(alone.run_dir, tmp_path / "two.genie")


def torchrun(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start genie-onnx in two processes on the CPU."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "genie_onnx", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quantize", EXAMPLE, "--wbits", "99"], "99 is not in the range"),
        (["quantize", "nothing.onnx"], "no such file"),
        (["distill", EXAMPLE, "--device", "cpu", "--samples", "0"], "0 is not in the range"),
    ],
)
def test_a_mistake_is_said_once(arguments: list[str | Path], message: str) -> None:
    process = torchrun(*arguments)
    said = process.communicate(timeout=120)[1]
    assert process.returncode != 0
    assert said.count("error: ") == said.count(message) == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "stopped"])
def test_stopped_on_the_command_line(how: signal.Signals, tmp_path: Path) -> None:
    """One process is killed, or all of them are stopped; the plain command goes on."""
    arguments = ["quantize", EXAMPLE, "--samples", "12", "--distill-iters", "2", "--recon-iters", "40", "--batch-size", "5"]
    arguments += ["--device", "cpu", "--precision", "fp32", "-q", "-o", tmp_path / "digits.onnx"]
    process, run = torchrun(*arguments), RunDirectory(tmp_path / "digits.genie")
    while not run.loss(0).exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    if how == signal.SIGKILL:
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True)
        os.kill(int(listed.stdout.split()[-1]), how)
    else:
        process.send_signal(how)
    said = process.communicate(timeout=120)[1]
    assert process.returncode != 0
    (line,) = re.findall("^error: .*$", said, re.MULTILINE)
    assert "goes on from the last finished step" in line
    assert not genie_onnx.status(run.path).working
    subprocess.run([sys.executable, "-m", "genie_onnx", *map(str, arguments)], check=True, capture_output=True)
    assert genie_onnx.status(run.path).output_exists
