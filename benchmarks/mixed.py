"""Bits chosen by sensitivity against the same bits everywhere, at equal size: ResNet-20 and MobileNetV1-0.75, judged by score.py.

    python benchmarks/mixed.py BENCH OUT [--models resnet20,mobilenet] [--seeds 0,1,2]

Of each model and seed one file has 3 bits in every layer (8 in the first and last, as by default), the other the bits that
`--target-size` chooses for as many bytes of weights. Lines are appended to OUT/results.txt; what is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from accuracy import score


@dataclass(frozen=True)
class Row:
    """A model of the bench, how it is quantized, and the test sets of score.py that it is judged on."""

    model: str
    data: str
    arguments: tuple[str, ...]
    sets: tuple[str, ...]


ROWS = {
    "resnet20": Row(
        "cifar/resnet20_bn.onnx",
        "cifar/calib1024.npz",
        ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--abits", "4", "--preset", "fast"),
        ("cifar", "cifar-jpeg"),
    ),
    "mobilenet": Row(  # short: a run takes eight minutes of a core
        "imagenet/mobilenet_v1_075_224_bn.onnx",
        "imagenet/calib",
        (
            "--mean",
            "0.5",
            "--std",
            "0.5",
            "--abits",
            "8",
            "--samples",
            "128",
            "--recon-iters",
            "200",
            "--batch-size",
            "16",
        ),
        ("imagenet",),
    ),
}


def quantized(bench: Path, row: Row, output: Path, arguments: list[str]) -> int:
    """Make `output` and return the bytes of its weights at their true bits."""
    command = [sys.executable, "-m", "genie_onnx", "quantize", str(bench / row.model), "-o", str(output)]
    subprocess.run([*command, "--data", str(bench / row.data), *row.arguments, *arguments], check=True)
    report = json.loads(output.with_suffix(".report.json").read_text(encoding="utf-8"))
    return int(report["sizes"]["packed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", default=",".join(ROWS))
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.txt"
    for seed in options.seeds.split(","):
        for name in options.models.split(","):
            done = results.read_text(encoding="utf-8") if results.exists() else ""
            if f"{name}, seed {seed}:" in done:
                continue
            row = ROWS[name]
            files = [options.out / f"{name}_{kind}_s{seed}.onnx" for kind in ("uniform", "chosen")]
            size = quantized(options.bench, row, files[0], ["--wbits", "3", "--seed", seed])
            chosen = quantized(options.bench, row, files[1], ["--target-size", f"{size / 1000}kB", "--seed", seed])
            figures = [" / ".join(str(score(options.bench, s, file)) for s in row.sets) for file in files]
            line = f"{name}, seed {seed}: uniform {figures[0]} at {size} bytes, chosen {figures[1]} at {chosen} bytes"
            with results.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            print(line, flush=True)


if __name__ == "__main__":
    main()
