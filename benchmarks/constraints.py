"""What the constraints of targets cost in accuracy: ResNet-20, judged by the bench's own score.py, and the shipped example.

    python benchmarks/constraints.py BENCH OUT [--seeds 0,1,2] [--rows 'NAME;...'] [--iterations 500] [--samples 256] [--bits 4]
        [--model cifar|digits]

ResNet-20 is few-shot, the example on procedural images; --iterations 0 rounds in closed form alone. The same images for all rows
of a seed, first and last layer and first values at 8 bits. Every row is the portable target with some constraints changed, so
that nothing but these differs. A line is appended to OUT/constraints.txt as soon as it is there; what OUT has already is not done
again.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from accuracy import score

from genie_onnx import TARGETS, Constraints, PlacementConfig, QuantizeConfig, ReconstructConfig, evaluate, quantize

EXAMPLES = Path(__file__).parent.parent / "examples"

ROWS = {
    "portable": Constraints(),
    "no Q/DQ between Conv and Add (openvino)": Constraints(sums="fused"),
    "8-bit values symmetric": Constraints(wide_values="symmetric"),
    "both (tensorrt)": Constraints(sums="fused", wide_values="symmetric"),
    "weights symmetric": Constraints(weight_grid="symmetric"),
    "power-of-two scales": Constraints(scales="power-of-two"),
    "power-of-two, symmetric, one scale a weight (vitis)": Constraints(
        scales="power-of-two", weight_grid="symmetric", wide_values="symmetric", weight_scale="tensor"
    ),
    "outputs rounded, weights symmetric (qnn)": Constraints(outputs="rounded", weight_grid="symmetric"),
    "no zero points (qonnx)": Constraints(weight_grid="symmetric", value_grid="unshifted"),
    "no zero points, power-of-two, one scale a weight": Constraints(
        weight_grid="symmetric", value_grid="unshifted", scales="power-of-two", weight_scale="tensor"
    ),
    "no zero points, power-of-two, scales a channel of ungrouped convolutions (hls4ml)": TARGETS["hls4ml"].constraints,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--rows", help=f"of: {'; '.join(ROWS)}")
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--bits", type=int, default=4, help="of weights and values")
    parser.add_argument("--model", choices=["cifar", "digits"], default="cifar")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "constraints.txt"
    done = results.read_text(encoding="utf-8") if results.exists() else ""
    cifar = options.bench / "cifar"
    for seed in map(int, options.seeds.split(",")):
        for number, (name, constraints) in enumerate(ROWS.items()):
            how = f"W{options.bits}A{options.bits}, {options.iterations} iterations"
            key = f"{options.model}, {how}, {name}, seed {seed}:"
            if key in done or (options.rows and name not in options.rows.split(";")):
                continue
            config = QuantizeConfig(
                target=dataclasses.replace(TARGETS["portable"], name=name, constraints=constraints),
                reconstruct=ReconstructConfig(iterations=options.iterations, rounding_lr=5e-3),
                placement=PlacementConfig(wbits=options.bits, abits=options.bits),
                samples=options.samples,
                seed=seed,
            )
            output = options.out / f"constraints_{options.model}_{options.bits}_{options.iterations}_{number}_s{seed}.onnx"
            if options.model == "cifar":
                config = dataclasses.replace(config, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
                quantize(cifar / "resnet20_folded.onnx", output, config=config, data=[cifar / "calib1024.npz"])
                figures = [score(options.bench, test_set, output) for test_set in ("cifar", "cifar-jpeg")]
                line = f"{key} test1k {figures[0]}, jpeg {figures[1]}"
            else:
                quantize(EXAMPLES / "digits.onnx", output, config=dataclasses.replace(config, images="procedural"))
                line = f"{key} {100 * (evaluate(output, [EXAMPLES / 'digits_test.npz']).top1 or 0):.1f}"
            with results.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            print(line, flush=True)


if __name__ == "__main__":
    main()
