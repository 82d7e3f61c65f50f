"""Killed (SIGKILL) at any moment, the same call goes on from what is finished and ends with the identical file."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from run_to_kill import killed_after, killed_before_file
from small_bn_net import SHAPE, small_bn_net

import genie_onnx
from genie_onnx import DistillConfig, Notice, PlacementConfig, QuantizeConfig, ReconstructConfig
from genie_onnx.graph import fold_batchnorm, load, normalise
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import prepare
from genie_onnx.synthesis import distill

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL and fork servers are POSIX")

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.onnx"
TINY = QuantizeConfig(
    samples=12,
    distill=DistillConfig(iterations=2, refine_iterations=2, batch_size=6),
    reconstruct=ReconstructConfig(iterations=3),
)


def settings(kind: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return a model and the arguments of a run whose images are of this kind."""
    model = folder / f"{kind}.onnx"
    proto = small_bn_net()
    onnx.save(ir.to_proto(fold_batchnorm(normalise(load(proto)))) if kind == "refined" else proto, model)
    images = np.random.default_rng(0).standard_normal((20, *SHAPE)).astype(np.float32)
    np.save(folder / "many.npy", images)
    np.save(folder / "few.npy", images[:4])
    match kind:
        case "data":
            return model, {"config": TINY, "data": [folder / "many.npy"]}
        case "amplified":
            return model, {"config": dataclasses.replace(TINY, amplify=True), "data": [folder / "few.npy"]}
        case "procedural":
            return model, {"config": dataclasses.replace(TINY, images="procedural")}
        case _:
            return model, {"config": TINY}


def identical(whole: Path, other: Path) -> None:
    """Check that two runs wrote the same: model, encodings, and report apart from times."""
    assert other.read_bytes() == whole.read_bytes()
    files = [[path.with_name(f"{path.stem}.{end}.json") for path in (whole, other)] for end in ("encodings", "report")]
    assert files[0][0].read_bytes() == files[0][1].read_bytes()
    reports = [json.loads(file.read_text()) for file in files[1]]
    assert [report.pop("seconds") > 0 for report in reports] == [True, True]
    assert reports[0] == reports[1]


def leftovers(folder: Path) -> list[Path]:
    """Return what unfinished writing left."""
    return [path for path in folder.rglob("*") if ".part" in path.name]


@pytest.mark.parametrize(("kind", "number"), [("procedural", 11), pytest.param("amplified", 7, marks=pytest.mark.slow)])
def test_killed_before_a_file_appears(kind: str, number: int, tmp_path: Path) -> None:
    model, arguments = settings(kind, tmp_path)
    whole = genie_onnx.quantize(model, tmp_path / "whole.onnx", **arguments)
    assert whole.report.images == {"amplified": "data+distilled"}.get(kind, kind)
    assert killed_before_file(number, model, tmp_path / "killed.onnx", **arguments)
    assert leftovers(tmp_path)
    genie_onnx.quantize(model, tmp_path / "killed.onnx", **arguments)
    identical(whole.output, tmp_path / "killed.onnx")
    assert not leftovers(tmp_path)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    model, arguments = settings("distilled", tmp_path)
    began = time.monotonic()
    whole = genie_onnx.quantize(model, tmp_path / "whole.onnx", **arguments)
    length, moments = time.monotonic() - began, random.Random(2)
    for _ in range(3):
        killed_after(moments.randint(0, 6), moments.uniform(0, 0.2) * length, model, tmp_path / "killed.onnx", **arguments)
    genie_onnx.quantize(model, tmp_path / "killed.onnx", **arguments)
    identical(whole.output, tmp_path / "killed.onnx")
    assert not leftovers(tmp_path)


def test_images_of_one_channel_lie_in_memory_as_if_read_from_a_file() -> None:
    prepared = prepare(str(EXAMPLE), PlacementConfig())
    images = distill(
        prepared.teacher,
        prepared.statistics,
        prepared.shape,
        4,
        DistillConfig(iterations=1, batch_size=4, start="leaves"),
        mean=(0.0,),
        std=(1.0,),
        seed=0,
        compute=Compute(torch.device("cpu")),
        progress=lambda step: None,
    )
    assert images.stride() == torch.empty(images.shape).stride()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["distilled", "refined", "amplified", "data", "procedural"])
def test_killed_before_each_of_its_files(kind: str, tmp_path: Path) -> None:
    """One run, killed before its first file, then before its second, ...; each attempt goes on from the one before."""
    model, arguments = settings(kind, tmp_path)
    whole = genie_onnx.quantize(model, tmp_path / "whole.onnx", **arguments)
    number = 1
    while killed_before_file(number, model, tmp_path / f"{number}.onnx", **arguments):
        genie_onnx.quantize(model, tmp_path / f"{number}.onnx", **arguments)
        identical(whole.output, tmp_path / f"{number}.onnx")
        number += 1
    assert number > 10
    assert not leftovers(tmp_path)


@pytest.mark.slow
def test_twenty_kills_over_one_run(tmp_path: Path) -> None:
    """Prints how far each got (-s)."""
    config = QuantizeConfig(
        samples=48,
        distill=DistillConfig(iterations=5, batch_size=8, start="leaves"),
        reconstruct=ReconstructConfig(iterations=8),
    )
    began = time.monotonic()
    whole = genie_onnx.quantize(EXAMPLE, tmp_path / "whole.onnx", config=config)
    length = time.monotonic() - began
    print(f"\nuninterrupted: {length:.1f} s")
    moments, output = random.Random(1), tmp_path / "killed.onnx"
    for kill in range(20):
        files, life = moments.choice((0, 1, 1, 1, 2)), moments.uniform(0, length / 20)
        going = killed_after(files, life, EXAMPLE, output, config=config)
        if not (tmp_path / "killed.genie" / "source.json").exists():
            print(f"kill {kill + 1:2}, {life:.2f} s after {files} files: nothing yet")
            continue
        found = genie_onnx.status(tmp_path / "killed.genie")
        assert not found.working
        assert not found.damaged
        print(
            f"kill {kill + 1:2}, {life:.2f} s after {files} files{'' if going else ' (it had ended)'}: {found.stage}, batches "
            f"{found.batches_done}/{found.batches}, blocks {found.blocks_done}/{len(found.blocks)}, output {found.output_exists}"
        )
    genie_onnx.quantize(EXAMPLE, output, config=config)
    identical(whole.output, output)
    assert not leftovers(tmp_path)


def test_damaged_files_are_made_again(tmp_path: Path) -> None:
    model, arguments = settings("distilled", tmp_path)
    whole = genie_onnx.quantize(model, tmp_path / "whole.onnx", **arguments)
    genie_onnx.quantize(model, tmp_path / "other.onnx", **arguments)
    run = tmp_path / "other.genie"
    batch, images, codes, loss, grids = (
        run / name
        for name in ("images/batch_001.npz", "images.npz", "codes/0000.safetensors", "codes/0001.json", "grids.safetensors")
    )
    flipped = bytearray(codes.read_bytes())
    flipped[-1] ^= 1
    for path, content in (
        (images, b""),
        (batch, batch.read_bytes()[:700]),
        (codes, bytes(flipped)),
        (loss, b'{"block": 1}'),
        (grids, grids.read_bytes()[:100]),
    ):
        path.write_bytes(content)
    assert len(genie_onnx.status(run).damaged) == 2
    events: list[genie_onnx.Event] = []
    result = genie_onnx.quantize(model, tmp_path / "other.onnx", progress=events.append, **arguments)
    notices = [event.text for event in events if isinstance(event, Notice)]
    for path in (images, batch, codes, loss, grids):
        assert any(str(path) in text for text in notices), (path, notices)
    assert len(notices) == 5
    assert set(notices) <= set(result.report.notices)
    assert (tmp_path / "other.onnx").read_bytes() == whole.output.read_bytes()
    assert not genie_onnx.status(run).damaged
