"""Other tools that quantize ONNX files, each called as its documentation says: one run of one of them, for closed_form.py.

    OMP_NUM_THREADS=1 PYTHON benchmarks/peers.py TOOL METHOD MODEL IMAGES OUT --bits W4A8 --mean M --std S [--judge BENCH SET ...]

PYTHON is the one of an environment that has the tool (and onnxruntime, which folds BatchNorm for all of them). IMAGES is an .npz
of uint8 images [N, H, W, 3]. Writes OUT.onnx where the tool can, and OUT.json: CPU seconds and peak memory of this process when
it was done, its imports included, and the tool's version; for a tool that only simulates also the accuracy of the simulation.

| tool             | tried with       | methods                                                                                 |
| onnxruntime      | 1.31.1, 1.32.0   | minmax: per channel, QDQ; weights of 4 bits need opset 21                               |
| aimet-onnx       | 2.42.0           | seqmse; adaround (after seqmse, 1,000 iterations a layer; advised are 10,000 to 15,000) |
| esp-ppq          | 1.3.12           | lsq (500 steps a block at 4 bits of values, else 200; learning rate 1e-4): simulated    |

All of them install from PyPI beside torch 2.13.0 on Python 3.11 (`pip install torch==2.13.0 aimet-onnx onnxruntime`, `... esp-ppq
onnxruntime pillow`). esp-ppq pins onnx below 1.20, writes no file of other than 8 bits, and for ResNet-20 at 8 bits one that does
not load.

Bits are placed as this project does by default (`--setting brecq --other-bits 8`): 8 for the weights of the first and last
layer, the image, what the second and the last layer read, and values that no layer reads.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx

LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
SAME_VALUE = {"Relu", "Clip", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "MaxPool", "Identity"}
"""Operators whose output these tools put on the grid of their input, or whose input they leave alone."""
BATCH = 32  # images at once, or fewer so that there are several batches: esp-ppq wants eight


@dataclass(frozen=True)
class Task:
    """`model` has BatchNorm folded; `images`, float32 [N, C, H, W], are its inputs; bits of weights and values."""

    model: Path
    images: np.ndarray
    wbits: int
    abits: int
    iterations: int | None  # at most so many, for a try

    def batches(self) -> Iterator[np.ndarray]:
        size = max(1, min(BATCH, len(self.images) // 8))
        for begin in range(0, len(self.images), size):
            yield self.images[begin : begin + size]

    def most(self, iterations: int) -> int:
        return iterations if self.iterations is None else min(iterations, self.iterations)


Simulation = Callable[[np.ndarray], np.ndarray]
"""Class scores [N, K] of inputs [N, C, H, W]."""


@dataclass(frozen=True)
class Wide:
    """The weights and values of a model that have 8 bits whatever the others have."""

    weights: frozenset[str]
    values: frozenset[str]


def wide(model: onnx.ModelProto) -> Wide:
    """Return what has 8 bits in a model with BatchNorm folded, nodes in order."""
    graph = model.graph
    layers = [node for node in graph.node if node.op_type in LAYERS]
    producers = {value: node for node in graph.node for value in node.output}
    read = {layer.input[0] for layer in layers}  # by a layer, directly or through operators that keep a value
    for node in reversed(graph.node):
        if node.op_type in SAME_VALUE and node.output[0] in read:
            read.add(node.input[0])
    values = {value for node in graph.node for value in node.output if value not in read}
    ends = [graph.input[0].name, layers[min(1, len(layers) - 1)].input[0], layers[-1].input[0]]
    for value in ends:
        values.add(value)
        while value in producers and producers[value].op_type in SAME_VALUE:
            value = producers[value].input[0]
            values.add(value)
    return Wide(frozenset({layers[0].input[1], layers[-1].input[1]}), frozenset(values))


def normalised(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Return uint8 [N, H, W, C] as float32 [N, C, H, W], (pixel / 255 - mean) / std."""
    found = np.empty((len(images), images.shape[3], *images.shape[1:3]), np.float32)
    for x, image in zip(found, images, strict=True):  # one by one: what this takes must not be the peak of a tool
        x[:] = ((image / np.float32(255) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)).transpose(2, 0, 1)
    return found


def one_thread() -> None:
    """Let every session of onnxruntime in this process compute in one thread: some tools make theirs without asking."""
    import onnxruntime

    class OneThread(onnxruntime.SessionOptions):
        def __init__(self) -> None:
            super().__init__()
            self.intra_op_num_threads = self.inter_op_num_threads = 1

    onnxruntime.SessionOptions = OneThread


def folded(model: Path, output: Path) -> onnx.ModelProto:
    """Write `model` with BatchNorm folded to `output`, by onnxruntime's own preparation of models for quantization."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(model), str(output), skip_symbolic_shape=True)
    made = onnx.load(output)
    domains = {node.domain for node in made.graph.node}
    used = [opset for opset in made.opset_import if opset.domain in domains]
    del made.opset_import[:]
    made.opset_import.extend(used)  # without those of onnxruntime's own domains, which other tools refuse
    onnx.save(made, output)
    return made


def onnxruntime_minmax(task: Task, output: Path) -> Simulation | None:
    """quantize_static with its defaults, but per channel."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

    weight, value = (
        {8: full, 4: half}[bits]
        for bits, full, half in (
            (task.wbits, QuantType.QInt8, QuantType.QInt4),
            (task.abits, QuantType.QUInt8, QuantType.QUInt4),
        )
    )
    model = onnx.load(task.model)
    overrides: dict[str, list[dict[str, Any]]] = {}
    if task.wbits < 8 or task.abits < 8:
        model = onnx.version_converter.convert_version(model, 21)  # below, 4 bits are operators of onnxruntime alone
        onnx.save(model, task.model)
        kept = wide(model)
        overrides = {name: [{"quant_type": QuantType.QUInt8}] for name in kept.values}
        overrides |= {name: [{"quant_type": QuantType.QInt8, "axis": 0}] for name in kept.weights}
    name = model.graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(task.images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({name: image[None]} for image in self.images), None)  # in batches of 32 its peak is 2.1 GB

    quantize_static(
        str(task.model),
        str(output),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=value,
        weight_type=weight,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"TensorQuantOverrides": overrides} if overrides else {},
    )
    return None


def aimet_seqmse(task: Task, output: Path) -> Simulation | None:
    """Steps of weights by the error of what a layer yields; those of values by AIMET's enhanced scheme."""
    return _aimet(task, output, adaround=False)


def aimet_adaround(task: Task, output: Path) -> Simulation | None:
    """The same, and rounding learned layer by layer."""
    return _aimet(task, output, adaround=True)


def _aimet(task: Task, output: Path, adaround: bool) -> Simulation | None:
    aimet_onnx = import_module("aimet_onnx")
    scheme = import_module("aimet_onnx.common.defs").QuantScheme.post_training_tf_enhanced
    model = onnx.load(task.model)
    kept = wide(model)
    name = model.graph.input[0].name
    config = Path(str(aimet_onnx.__file__)).parent / "common" / "quantsim_config" / "default_config_per_channel.json"
    sim = aimet_onnx.QuantizationSimModel(
        model,
        param_type=f"int{task.wbits}",
        activation_type=f"int{task.abits}",
        quant_scheme="min_max",  # which seqmse asks for
        config_file=str(config),
        dummy_input={name: task.images[:1]},
    )
    for tensor, quantizer in sim.qc_quantize_op_dict.items():
        if tensor in kept.values or tensor in kept.weights:
            quantizer.set_bitwidth(8)
        if tensor not in sim.param_names:
            quantizer.set_quant_scheme(scheme)
    inputs = [{name: batch} for batch in task.batches()]
    aimet_onnx.apply_seq_mse(sim, inputs)
    if adaround:
        aimet_onnx.apply_adaround(sim, inputs, num_iterations=task.most(1000))
    sim.compute_encodings(inputs)
    onnx.save(sim.to_onnx_qdq(), output)
    return None


def ppq_lsq(task: Task, output: Path) -> Simulation | None:
    """Weights and steps learned block by block (LSQ). Simulated: nothing is written."""
    import torch

    api, core = import_module("esp_ppq.api"), import_module("esp_ppq.core")
    properties, platform = core.QuantizationProperty, core.TargetPlatform.ONNXRUNTIME
    for_onnxruntime: Any = import_module("esp_ppq.quantization.quantizer").OnnxruntimeQuantizer
    torch.set_num_threads(1)
    kept = wide(onnx.load(task.model))
    unsigned = core.QuantizationPolicy(properties.ASYMMETRICAL + properties.LINEAR + properties.PER_TENSOR)

    class LowBits(for_onnxruntime):
        """The quantizer for onnxruntime with other bits, and values on grids that begin at their minimum."""

        def init_quantize_config(self, operation: Any) -> Any:
            made = super().init_quantize_config(operation)
            for config, value in (
                *zip(made.input_quantization_config, operation.inputs, strict=True),
                *zip(made.output_quantization_config, operation.outputs, strict=True),
            ):
                if value.is_parameter and operation.type not in LAYERS:
                    # Limits of a Clip get the step of its input later: of 255 codes 127 would be the last.
                    config.quant_min, config.quant_max, config.num_of_bits = -(2**30), 2**30, 32
                elif config.state == core.QuantizationStates.FP32:  # a bias
                    continue
                elif value.is_parameter:
                    bits = 8 if value.name in kept.weights else task.wbits
                    config.quant_min, config.quant_max = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
                    config.num_of_bits = bits
                else:
                    bits = 8 if value.name in kept.values else task.abits
                    config.policy, config.quant_min, config.quant_max = unsigned, 0, 2**bits - 1
                    config.num_of_bits = bits
            return made

    api.register_network_quantizer(LowBits, platform)
    setting = api.QuantizationSettingFactory.default_setting()
    setting.fusion_setting.align_elementwise_to = "None"  # by default what is added has one grid, of 4 bits with 8: ruin
    setting.lsq_optimization = True
    setting.lsq_optimization_setting.collecting_device = "cpu"
    setting.lsq_optimization_setting.lr = 1e-4
    setting.lsq_optimization_setting.steps = task.most(500 if task.abits < 8 else 200)
    images = [torch.from_numpy(batch) for batch in task.batches()]
    graph = api.quantize_onnx_model(
        onnx_import_file=str(task.model),
        calib_dataloader=images,
        calib_steps=len(images),
        input_shape=[1, *task.images.shape[1:]],
        platform=platform,
        setting=setting,
        device="cpu",
    )
    executor = import_module("esp_ppq.executor").TorchExecutor(graph=graph, device="cpu")

    def simulated(x: np.ndarray) -> np.ndarray:
        scores: torch.Tensor = executor.forward(torch.from_numpy(x))[0]
        return scores.detach().numpy()

    return simulated


METHODS: dict[str, dict[str, Callable[[Task, Path], Simulation | None]]] = {
    "onnxruntime": {"minmax": onnxruntime_minmax},
    "aimet-onnx": {"seqmse": aimet_seqmse, "adaround": aimet_adaround},
    "esp-ppq": {"lsq": ppq_lsq},
}
"""Of each tool, by the name of its package."""


def accuracy(simulation: Simulation, bench: Path, test_set: str, limit: int) -> float:
    """Return the top-1 of a simulation in percent, on the images that the bench's judge loads."""
    spec = importlib.util.spec_from_file_location("score", bench / "score.py")
    assert spec is not None
    assert spec.loader is not None
    judge = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(judge)
    x, labels = judge.load(test_set)
    x, labels = x[: limit or None], labels[: limit or None]
    scores = np.concatenate([simulation(x[begin : begin + BATCH]) for begin in range(0, len(x), BATCH)])
    return round(float((scores.reshape(len(x), -1).argmax(1) == labels).mean() * 100), 2)


def spent() -> dict[str, float]:
    """Return the CPU seconds and the peak memory of this process until now."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": round(usage.ru_utime + usage.ru_stime, 1), "peak_mb": round(usage.ru_maxrss / 1024, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", choices=METHODS)
    parser.add_argument("method")
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path, help="without its ending")
    parser.add_argument("--bits", default="W8A8")
    parser.add_argument("--mean", required=True)
    parser.add_argument("--std", required=True)
    parser.add_argument("--iterations", type=int, help="at most so many")
    parser.add_argument("--judge", nargs="+", help="BENCH and sets of its score.py: simulations are judged here")
    parser.add_argument("--limit", type=int, default=0, help="judge by so many images only")
    options = parser.parse_args()
    try:
        version = importlib.metadata.version(options.tool)
    except importlib.metadata.PackageNotFoundError:  # onnxruntime has several packages of one module
        if options.tool != "onnxruntime" or importlib.util.find_spec("onnxruntime") is None:
            sys.exit(f"{sys.executable} has no {options.tool}: pip install {options.tool}")
        version = import_module("onnxruntime").__version__
    one_thread()
    mean, std = ([float(v) for v in text.split(",")] for text in (options.mean, options.std))
    wbits, abits = (int(b) for b in options.bits[1:].split("A"))
    with tempfile.TemporaryDirectory() as folder, np.load(options.images) as arrays:
        model = Path(folder) / "folded.onnx"
        folded(options.model, model)
        task = Task(model, normalised(arrays["images"], mean, std), wbits, abits, options.iterations)
        simulation = METHODS[options.tool][options.method](task, options.out.with_suffix(".onnx"))
    result: dict[str, Any] = {"version": version, **spent()}
    if simulation is not None and options.judge:
        bench, *sets = options.judge
        result["accuracy"] = {s: accuracy(simulation, Path(bench), s, options.limit) for s in sets}
    options.out.with_suffix(".json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
