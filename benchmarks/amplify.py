"""A handful of images alone, or amplified by distilled ones: ResNet-20 with BatchNorm folded, judged by the bench's own score.py.

    python benchmarks/amplify.py BENCH OUT [--seeds 0,1,2] [--counts 8,32,128] [--rows 'W4A4;W2A4'] [--arms plain,amplified]
                                 [--samples 256] [--distill-iters 60] [--start leaves|generator]
                                 [--recon-iters N] [--rounding-lr R]

For each seed and count, so many images are drawn from BENCH/cifar/calib1024.npz; both arms get the same ones. Each model is made
by `genie-onnx quantize`, one after the other, and its line is appended to OUT/results.txt as soon as it is there. What OUT has
already is not done again, and a killed model goes on from its run directory. At the end the differences of the arms are printed.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from accuracy import PREPROCESSING, W2, W4, score

BITS = {"W4A4": W4, "W2A4": W2}
ARMS = {"plain": "--no-amplify", "amplified": "--amplify"}
TEST_SETS = ("cifar", "cifar-jpeg")
LINE = re.compile(
    r"(?P<arm>\w+) (?P<bits>\w+), (?P<count>\d+) images, seed (?P<seed>\d+): test1k (?P<a>[\d.]+), jpeg (?P<b>[\d.]+)"
)


def draw(source: Path, count: int, seed: int, target: Path) -> None:
    """Write `count` of the images in `source` to `target`, another choice for each seed."""
    images = np.load(source)["images"]
    np.savez(target, images=images[np.random.default_rng(seed).permutation(len(images))[:count]])


def summary(lines: Sequence[str]) -> list[str]:
    """Return a line for each bits and count: means of both arms over the seeds that have both, and their difference."""
    found: dict[tuple[str, int], dict[int, dict[str, tuple[float, float]]]] = defaultdict(lambda: defaultdict(dict))
    for match in filter(None, map(LINE.fullmatch, lines)):
        entry = found[match["bits"], int(match["count"])][int(match["seed"])]
        entry[match["arm"]] = (float(match["a"]), float(match["b"]))
    out = []
    for (bits, count), seeds in found.items():
        pairs = [(arms["plain"], arms["amplified"]) for arms in seeds.values() if len(arms) == len(ARMS)]
        for index, name in enumerate(("test1k", "jpeg") if pairs else ()):
            plain, more = ([pair[arm][index] for pair in pairs] for arm in (0, 1))
            gains = [b - a for a, b in zip(plain, more, strict=True)]
            out.append(
                f"{bits}, {count} images, {name}: plain {statistics.mean(plain):.2f}, amplified {statistics.mean(more):.2f}, "
                f"gain {statistics.mean(gains):+.2f} ({', '.join(f'{gain:+.2f}' for gain in gains)})"
            )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--counts", default="8,32,128")
    parser.add_argument("--rows", default=";".join(BITS))
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--samples", default="256")
    parser.add_argument("--distill-iters", default="60")
    parser.add_argument("--start", default="leaves", choices=["leaves", "generator", "noise"])
    parser.add_argument("--recon-iters", help="instead of 1000 at W4A4 and 2000 at W2A4")
    parser.add_argument("--rounding-lr", help="instead of 1e-3")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.txt"
    results.touch()
    cifar = options.bench / "cifar"
    shared = [*PREPROCESSING, "--samples", options.samples, "--distill-iters", options.distill_iters, "--start", options.start]
    last = ["--recon-iters", options.recon_iters] if options.recon_iters else []
    last += ["--rounding-lr", options.rounding_lr] if options.rounding_lr else []
    runs = [
        (seed, bits, int(count), arm)
        for seed in options.seeds.split(",")
        for bits in options.rows.split(";")
        for count in options.counts.split(",")
        for arm in options.arms.split(",")
    ]
    for seed, bits, count, arm in runs:
        name = f"{arm} {bits}, {count} images, seed {seed}"
        if f"{name}:" in results.read_text(encoding="utf-8"):
            continue
        data, output = options.out / f"images_{count}_s{seed}.npz", options.out / f"{arm}_{bits}_{count}_s{seed}.onnx"
        if not data.exists():
            draw(cifar / "calib1024.npz", count, int(seed), data)
        command = [sys.executable, "-m", "genie_onnx", "quantize", cifar / "resnet20_folded.onnx", "-o", output, "--data", data]
        subprocess.run([*command, ARMS[arm], "--seed", seed, *shared, *BITS[bits], *last], check=True)
        figures = [score(options.bench, test_set, output) for test_set in TEST_SETS]
        line = f"{name}: test1k {figures[0]}, jpeg {figures[1]}"
        with results.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)
    print("\n".join(summary(results.read_text(encoding="utf-8").splitlines())))


if __name__ == "__main__":
    main()
