"""Quantize the example from Python, without any data, at two settings.

    python examples/quantize_digits.py [FOLDER]

writes digits.w4a4.onnx and digits.w2a4.onnx into FOLDER (default: a temporary one) and prints their size and their accuracy on
digits_test.npz beside those of the float model. Takes about a minute on a CPU.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import genie_onnx
from genie_onnx import DistillConfig, PlacementConfig, QuantizeConfig, ReconstructConfig

HERE = Path(__file__).parent
MODEL = HERE / "digits.onnx"
TEST = HERE / "digits_test.npz"


def settings(wbits: int, abits: int) -> QuantizeConfig:
    """Return settings that take seconds rather than the paper's hours."""
    return QuantizeConfig(
        placement=PlacementConfig(wbits=wbits, abits=abits),
        distill=DistillConfig(iterations=200, start="leaves"),
        reconstruct=ReconstructConfig(iterations=300),
        samples=128,
    )


def main(folder: Path) -> None:
    models = [MODEL]
    for wbits, abits in [(4, 4), (2, 4)]:
        output = folder / f"digits.w{wbits}a{abits}.onnx"
        genie_onnx.quantize(MODEL, output, config=settings(wbits, abits))
        models.append(output)
    for model in models:
        accuracy = genie_onnx.evaluate(model, [TEST])
        print(f"{model.name:20} {model.stat().st_size / 1024:6.0f} KiB   top-1 {100 * accuracy.top1:.1f} %")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
