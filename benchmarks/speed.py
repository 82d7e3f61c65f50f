"""How fast the loops are against a plain transcription of the published ones (baseline_*.py), in one process.

    python benchmarks/speed.py [MODEL.onnx] [--threads N] [--device cuda] [--precision fp32]

Prints the reconstruction iteration of three blocks, the distillation iteration of MODEL (any with BatchNorm; default: the
shipped example), and the reconstruction of the whole of MODEL with few iterations, where the plain loop computes what goes into
a block from the images again, for teacher and student. On the CPU seconds are CPU seconds, so the ratios hold on a busy machine.
Whole networks of usual size on a GPU: speed_gpu.py.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import onnx
import torch
from speed_distill import measure
from speed_ours import read
from speed_reconstruct import BLOCKS, measure_run
from speed_reconstruct import measure as measure_block

from genie_onnx.machine.compute import choose_precision

EXAMPLE = Path(__file__).parent.parent / "examples" / "digits.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(EXAMPLE))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], help="of our loops; without it that of the device")
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each kind, ours and plain by turns")
    parser.add_argument("--images", type=int, default=256, help="of the whole run")
    parser.add_argument("--iterations", type=int, default=20, help="for each block of the whole run")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no CUDA device")
    precision = choose_precision(options.precision, device)
    print(f"torch {torch.__version__}, onnx {onnx.__version__}, {options.threads} thread(s), {device}, {precision}", flush=True)
    steps = 100 if device.type == "cuda" else 10
    for name in BLOCKS:
        ratios = measure_block(name, steps, options.pairs, device, precision)
        print(f"reconstruction, {name}: {_ratio(ratios)} of the plain loop", flush=True)
    name = Path(options.model).name
    speed = measure(read(options.model), device, rounds=options.pairs, iterations=steps // 4, precision=precision)
    print(f"distillation, {name}, batch 128: {speed.ratio:.2f}x of the plain loop ({speed.ours:.3f} s an iteration)", flush=True)
    ours, plain = measure_run(options.model, options.images, options.iterations, device, precision)
    print(
        f"whole reconstruction, {name}, {options.images} images, {options.iterations} iterations a block: {plain / ours:.2f}x "
        f"({ours:.1f} s, plain {plain:.1f} s without its search of step sizes)"
    )


def _ratio(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f} .. {ratios[-1]:.2f})"


if __name__ == "__main__":
    main()
