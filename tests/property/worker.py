"""A process that tries model files: paths come in on stdin, one JSON line for each goes out on stdout.

    {"outcome": "quantized" | "refused" | "failed" | "broken", "text": ..., "seconds": ..., "peak_mb": ...}

Seconds are those of the processor.

refused    InputError: the file cannot be used         failed   RunError
broken     any other exception: a defect, with its traceback

Memory beyond LIMIT cannot be allocated, so asking for it shows as a MemoryError, or the like, of the file that did.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

LIMIT = 4 * 2**30  # bytes


def main() -> None:
    """Try every file named on stdin."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))  # private memory; the libraries themselves are mapped files
    out, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        started = time.process_time()
        outcome, text = attempt(Path(line.strip()))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # of this process so far
        result = {"outcome": outcome, "text": text, "seconds": time.process_time() - started, "peak_mb": peak}
        print(json.dumps(result), file=out, flush=True)


def attempt(path: Path) -> tuple[str, str]:
    """Inspect a file and quantise it with as little work as possible."""
    import genie_onnx
    from genie_onnx import DistillConfig, InputError, QuantizeConfig, ReconstructConfig, RunError

    config = QuantizeConfig(
        samples=2,
        distill=DistillConfig(iterations=1, refine_iterations=1),
        reconstruct=ReconstructConfig(iterations=1, batch_size=2),
        device="cpu",
    )
    try:
        genie_onnx.inspect(path, config=config)
        with tempfile.TemporaryDirectory() as folder:
            result = genie_onnx.quantize(path, Path(folder) / "out.onnx", config=config)
            return "quantized", f"{len(result.report.weights)} weights"
    except InputError as error:
        return "refused", str(error)
    except RunError as error:
        return "failed", str(error)
    except Exception:
        return "broken", traceback.format_exc()


if __name__ == "__main__":
    main()
