"""benchmarks/closed_form.py and peers.py, what needs no bench: rows, options, costs, results, and where peers have 8 bits."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are measured by wait4")


@pytest.fixture(autouse=True)
def _scripts_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def lines() -> Iterator[dict[str, object]]:
    """Yield results as the script writes them: a build, a simulated peer, and one that failed."""
    from closed_form import Row, Settings

    build = Row("compare", "resnet20", "W4A4", "this", "default", Settings())
    yield {
        **build.key,
        "status": 0,
        "cpu_s": 12.5,
        "peak_mb": 600.0,
        "commit": "abc",
        "accuracy": {"cifar": 91.0, "cifar-jpeg": 80.5},
    }
    peer = Row("compare", "resnet20", "W4A4", "esp-ppq", "lsq", Settings(limit=100))
    yield {**peer.key, "cpu_s": 8.0, "peak_mb": 400.0, "version": "1.3", "simulated": True, "accuracy": {"cifar": 94.0}}
    yield {**Row("compare", "resnet20", "W4A4", "onnxruntime", "minmax", Settings()).key, "error": "a | b", "cpu_s": 1.0}


def test_what_is_compared_comes_one_after_the_other() -> None:
    from closed_form import Settings, rows

    found = list(rows(["compare", "worth", "curve"], ["resnet20"], ["this", "before"], ["onnxruntime"], Settings()))
    assert [(r.bits, r.tool) for r in found[:4]] == [
        ("float", "float"),
        ("W8A8", "this"),
        ("W8A8", "before"),
        ("W8A8", "onnxruntime"),
    ]
    assert {r.tool for r in found if r.table == "worth"} == {"this"}
    assert [r.tool for r in found if r.table == "curve"][:2] == ["this", "before"]
    assert len({r.name for r in found}) == len(found)


def test_iterations_are_capped() -> None:
    from closed_form import capped

    assert capped(["--recon-iters", "500", "--no-equalise"], 5) == ["--recon-iters", "5", "--no-equalise"]
    assert capped(["--recon-iters", "0"], 5) == ["--recon-iters", "0"]
    assert capped([], 5) == ["--recon-iters", "5"]
    assert capped([], None) == []


def test_options_that_a_build_lacks_are_found() -> None:
    from closed_form import missing

    text = "  --closed-form / --no-closed-form\n  -m, --mean M[,M,M]   a mean. --hidden-thing"
    assert missing(["--no-closed-form", "--mean", "0"], text) == []
    assert missing(["--no-equalise", "--no-closed-form"], text) == ["--no-equalise"]


def test_cost_of_a_process_has_that_of_its_own_processes(tmp_path: Path) -> None:
    from closed_form import measured

    burn = "import subprocess, sys; x = bytearray(150_000_000); print('said', flush=True); "
    burn += "subprocess.run([sys.executable, '-c', 'import time\\nwhile time.process_time() < 0.5: pass']); sys.exit(3)"
    cost = measured([sys.executable, "-c", burn], os.environ, tmp_path / "log")
    assert cost.status == 3
    assert 0.5 <= cost.cpu_s < 5
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # a process begins as a copy of the one that starts it
    assert 140 < cost.peak_mb < max(600, 1.1 * own)
    assert (tmp_path / "log").read_text(encoding="utf-8") == "said\n"


def test_last_line_of_a_run_counts_and_failed_ones_are_not_there(tmp_path: Path) -> None:
    from closed_form import Row, Settings, has, results

    file = tmp_path / "results.jsonl"
    assert results(file) == []
    first, *_, failed = lines()
    with file.open("w", encoding="utf-8") as stream:
        for line in (failed, first, {**failed, "cpu_s": 2.0}):
            stream.write(json.dumps(line) + "\n")
    found = results(file)
    assert [line["cpu_s"] for line in found] == [2.0, 12.5]
    assert has(found, Row("compare", "resnet20", "W4A4", "this", "default", Settings()))
    assert not has(found, Row("compare", "resnet20", "W4A4", "this", "default", Settings(samples=16)))
    assert not has(found, Row("compare", "resnet20", "W4A4", "onnxruntime", "minmax", Settings()))


def test_summary_is_a_table() -> None:
    from closed_form import summary

    title, _, head, rule, build, peer, failed = summary(list(lines())).splitlines()
    assert title == "### compare, resnet20"
    assert len({text.count("|") for text in (head, rule, build, peer, failed)}) == 1
    assert build == "| W4A4 | this abc | default | 256 | 0 | 91.00 | 80.50 | 12.5 | 600.0 |"
    assert "lsq (first 100 images, simulated)" in peer
    assert "| a / b |" in failed


def test_images_are_drawn_by_the_seed(tmp_path: Path) -> None:
    from closed_form import images

    (tmp_path / "cifar").mkdir()
    every = np.arange(40 * 4 * 4 * 3, dtype=np.uint16).reshape(40, 4, 4, 3) % 251
    np.savez(tmp_path / "cifar" / "calib1024.npz", images=every.astype(np.uint8))
    found = [np.load(images(tmp_path, "resnet20", 8, seed, tmp_path / str(n)))["images"] for n, seed in enumerate((0, 0, 1))]
    assert found[0].shape == (8, 4, 4, 3)
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_peers_give_eight_bits_where_this_project_does() -> None:
    from peers import wide

    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[N, 3, 8, 8] image) => (float[N, 4] scores)
        <float[4, 3, 3, 3] w1, float[4, 4, 1, 1] w2, float[4, 4, 1, 1] w3, float[4, 4] w4> {
            a = Conv (image, w1)
            b = Relu (a)
            c = Conv (b, w2)
            d = Relu (c)
            e = Conv (d, w3)
            f = Add (e, b)
            g = GlobalAveragePool (f)
            h = Flatten (g)
            scores = Gemm (h, w4)
        }""")
    found = wide(model)
    assert found.weights == {"w1", "w4"}
    assert found.values == {"image", "a", "b", "e", "f", "g", "h", "scores"}  # b: what the second layer reads


def test_peers_read_pixels_as_the_model_does() -> None:
    from peers import normalised

    x = normalised(np.full((2, 4, 5, 3), 255, np.uint8), [0.5, 0.5, 0.0], [0.5, 0.25, 1.0])
    assert x.dtype == np.float32
    assert x.shape == (2, 3, 4, 5)
    assert x[0, :, 0, 0].tolist() == [1.0, 2.0, 1.0]


def test_both_scripts_know_the_same_peers() -> None:
    from closed_form import PEERS
    from peers import METHODS

    assert {tool: tuple(methods) for tool, methods in METHODS.items()} == PEERS
