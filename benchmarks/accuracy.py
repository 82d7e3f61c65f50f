"""Accuracy of quantised CIFAR ResNet-20 over bit widths and seeds, judged by the bench's own score.py.

    python benchmarks/accuracy.py BENCH OUT [--seeds 0,1,2] [--rows 'NAME;...']

BENCH is a folder with score.py and cifar/ (resnet20_bn.onnx, resnet20_folded.onnx, calib1024.npz and two test sets). Each
model is made by `genie-onnx quantize`, one after the other, and its line is appended to OUT/results.txt as soon as it is
there; what OUT already has is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

PREPROCESSING = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
FEW = ["--data", "calib1024.npz", "--samples", "1024", *PREPROCESSING]
ZERO = ["--samples", "256", "--distill-iters", "60", "--start", "leaves", *PREPROCESSING]
GENIE_D = ["--samples", "256", "--distill-iters", "180", "--start", "generator", *PREPROCESSING]
PAPER = ["--points", "layer-inputs"]  # the rounding points of the published runs
PUBLISHED = ["--rounding-lr", "0.001"]
W2 = ["--wbits", "2", "--recon-iters", "2000", *PUBLISHED]
W3 = ["--wbits", "3", "--abits", "3", "--recon-iters", "1000", "--rounding-lr", "0.003"]  # at 1e-3: 0.7 points less
W4 = ["--recon-iters", "1000", *PUBLISHED]
SHORT = ["--samples", "256", "--recon-iters", "500", "--rounding-lr", "0.005", *PREPROCESSING]
ROWS = {
    "few-shot W4A4, published points": ("resnet20_folded.onnx", [*FEW, *PAPER, *W4]),
    "few-shot W3A3, published points": ("resnet20_folded.onnx", [*FEW, *PAPER, *W3]),
    "few-shot W2A4, published points": ("resnet20_folded.onnx", [*FEW, *PAPER, *W2]),
    "few-shot W4A4": ("resnet20_folded.onnx", [*FEW, *W4]),
    "few-shot W2A4": ("resnet20_folded.onnx", [*FEW, *W2]),
    "few-shot W8A8": ("resnet20_folded.onnx", [*FEW, "--wbits", "8", "--abits", "8", "--recon-iters", "100"]),
    "zero-shot W4A4": ("resnet20_bn.onnx", [*ZERO, *W4]),
    "zero-shot W2A4": ("resnet20_bn.onnx", [*ZERO, *W2]),
    "zero-shot W4A4, from the generator": ("resnet20_bn.onnx", [*GENIE_D, *W4]),
    "zero-shot W2A4, from the generator": ("resnet20_bn.onnx", [*GENIE_D, *W2]),
    "refined W4A4": ("resnet20_folded.onnx", []),  # the plain command
    "refined W4A4, short": ("resnet20_folded.onnx", SHORT),
    "refined W2A4, short": ("resnet20_folded.onnx", ["--wbits", "2", *SHORT]),
    "procedural W4A4, short": ("resnet20_folded.onnx", [*SHORT, "--images", "procedural"]),
    "procedural W2A4, short": ("resnet20_folded.onnx", ["--wbits", "2", *SHORT, "--images", "procedural"]),
    "zero-shot W2A4, short": ("resnet20_bn.onnx", ["--wbits", "2", *SHORT]),
}


def score(bench: Path, test_set: str, model: Path, limit: int = 0) -> float:
    """Return the accuracy of `model` in percent, as the bench's judge prints it, on the first `limit` images (0: all)."""
    command = [sys.executable, str(bench / "score.py"), test_set, str(model), "--limit", str(limit)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(printed.stdout)["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", help=f"of: {'; '.join(ROWS)}")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.txt"
    done = results.read_text(encoding="utf-8") if results.exists() else ""
    names = options.rows.split(";") if options.rows else list(ROWS)
    for seed in options.seeds.split(","):
        for name in names:
            if f"{name}, seed {seed}:" in done:
                continue
            model, arguments = ROWS[name]
            cifar = options.bench / "cifar"
            arguments = [str(cifar / a) if a == "calib1024.npz" else a for a in arguments]
            output = options.out / f"{name.replace(' ', '_').replace(',', '')}_s{seed}.onnx"
            command = [sys.executable, "-m", "genie_onnx", "quantize", str(cifar / model), "-o", str(output), "--seed", seed]
            subprocess.run([*command, *arguments], check=True)
            figures = [score(options.bench, test_set, output) for test_set in ("cifar", "cifar-jpeg")]
            line = f"{name}, seed {seed}: test1k {figures[0]}, jpeg {figures[1]}"
            with results.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            print(line, flush=True)


if __name__ == "__main__":
    main()
