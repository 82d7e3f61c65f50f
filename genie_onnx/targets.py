"""What the file is for: one row a compiler or runtime, each constraint as plain data with its source.

    Constraints   in force while optimising: the grids, and where values are rounded. The simulation is of the target.
    Form          how the same numbers are written down. Changing it costs nothing but another export.

A row without `verified` follows the documents of its tool alone: nobody ran that on our files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

WIDE = 8  # bits of the values that `Constraints.wide_values` is about
QUANT_DOMAIN = "qonnx.custom_op.general"  # of the operator Quant
ORT_QUANTIZATION = "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html"
QONNX = "https://github.com/fastmachinelearning/qonnx/blob/main/docs/qonnx-custom-ops/quant_op.md"
HLS4ML = "https://fastmachinelearning.org/hls4ml/frontend/qonnx.html"
FINN = "https://github.com/Xilinx/finn/tree/main/src/finn/transformation/qonnx"
HTP_INT4 = "https://docs.qualcomm.com/bundle/publicresource/topics/80-63442-10/htp_guidelines_int4_weights.html"
AIMET_TIES = ("AveragePool", "Relu", "Resize", "Upsample")
"""Operators whose output has the quantizer of their input in AIMET (2.42: quantsim.op_types_to_tie_qtzrs, and what HTP
interpolates); Concat, which is there too, repeats numbers and has one grid anyway."""
LITERT = "https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec"
ORT_QNN = "https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html"


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """What a target demands of the numbers. Codes that meet them can be exported for it, whatever they were made for."""

    sums: Literal["rounded", "fused"] = "rounded"  # fused: what a layer writes into an Add is not rounded between the two
    gates: Literal["rounded", "float"] = "rounded"  # float: in x * sigmoid(x), the sigmoid is not rounded
    pools: Literal["own", "shared"] = "own"  # shared: an average pool writes on the grid of what it reads
    ties: tuple[str, ...] = ()  # operators beside them that do
    # shared: what a Slice, Split or Gather selects is on the grid of what it selects from, as there are no floats in between
    selections: Literal["own", "shared"] = "own"
    outputs: Literal["float", "rounded"] = "float"  # rounded: what a last layer writes has Q/DQ too
    weight_grid: Literal["affine", "symmetric"] = "affine"  # affine: below 7 bits; wider ones are symmetric anyway
    # of a weight: one an output channel, or one; mixed: one a channel of a convolution of one group, one of any other
    weight_scale: Literal["channel", "tensor", "mixed"] = "channel"
    wide_values: Literal["affine", "symmetric"] = "affine"  # grids of 8-bit values; symmetric: zero point 128, so 0 in INT8
    # of all values; unshifted: from 0 on where nothing is negative, else symmetric: unsigned or signed codes without zero point
    value_grid: Literal["affine", "unshifted"] = "affine"
    scales: Literal["any", "power-of-two"] = "any"  # powers of two are searched, and not learned
    weight_codes: Literal["all", "narrow"] = "all"  # narrow: of a symmetric grid of 8 bits, -127..127
    weight_bits: tuple[int, int] = (2, 8)  # smallest and largest
    value_bits: tuple[int, int] = (2, 8)

    def of_weight(self, ungrouped: bool) -> Constraints:
        """Return those of one weight, whose scales are one a channel, or one: `ungrouped` as in placement.WeightSpec."""
        if self.weight_scale != "mixed":
            return self
        return replace(self, weight_scale="channel" if ungrouped else "tensor")


@dataclass(frozen=True, kw_only=True)
class Form:
    """How codes are written down."""

    # float: a float model with rounded weights, the grids in a file beside it; qonnx: Quant nodes (exporter.quant_nodes);
    # tflite: QDQ, and an integer .tflite file beside it (exporter.litert)
    style: Literal["qdq", "float", "qonnx", "tflite"] = "qdq"
    weights: Literal["int8", "int4"] = "int8"  # int4: those of at most 4 bits as INT4 or UINT4
    # int8: stored less their zero point, which is 0 then; signed: INT8 less 128
    values: Literal["uint8", "int8", "signed"] = "uint8"
    clip: Literal["codes", "floats"] = (
        "codes"  # of values below 8 bits, between Q and DQ or in front of Q; codes: float Relu and Clip go there too
    )
    bias: Literal["int32", "float"] = "int32"
    beside: Literal["own", "aimet", "mnn"] = "own"  # of a float model: the grids as that tool reads them, beside our own table
    largest_opset: int | None = None
    reader: Literal["any", "hls4ml"] = "any"  # of QONNX; hls4ml: with what that needs besides (exporter.for_hls4ml)
    opset: int | None = None  # of the file; None: the model's own, or the nearest that the form can have
    batch: Literal["as given", "fixed"] = "as given"  # fixed: all dimensions of the input are, an open batch becomes 1

    @property
    def for_onnxruntime(self) -> bool:
        """Whether onnxruntime's optimised kernels compute such a file as it is written (it rounds float biases by itself, and its
        kernels for INT8 values depend on what surrounds them)."""
        return self.style == "qdq" and self.values == "uint8" and self.bias == "int32"

    @property
    def in_onnx(self) -> Form:
        """The same with nothing but ONNX's own operators: what is run and judged in place of Quant nodes or a .tflite file."""
        return replace(self, style="qdq") if self.style in ("qonnx", "tflite") else self


@dataclass(frozen=True, kw_only=True)
class Target:
    """A row of the table."""

    name: str
    reads: str  # what takes the file
    in_onnxruntime: bool = False  # whether its CPU kernels are what the file is meant for
    constraints: Constraints = field(default_factory=Constraints)
    form: Form = field(default_factory=Form)
    limits: str = ""
    verified: tuple[str, ...] = ()  # the tools, with versions, in which this project saw such files work
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.form.values == "int8" and self.constraints.wide_values != "symmetric":
            raise ValueError(
                f"target {self.name}: values stored as INT8 have no zero point, so those of 8 bits have to be symmetric"
            )
        if self.form.style == "qonnx" and self.constraints.value_grid != "unshifted":
            raise ValueError(
                f"target {self.name}: Quant rounds x / scale + zero point, ONNX x / scale, so values have to be unshifted"
            )
        if self.form.beside != "own" and self.form.style != "float":
            raise ValueError(f"target {self.name}: grids for {self.form.beside} lie beside a float model")

    def with_grids_for(self, tool: Literal["own", "aimet", "mnn"]) -> Target:
        """Return the row with the grids of its float model as `tool` reads them, too, and with what that demands of the numbers.

        Raises ValueError for a row whose grids are in the file.
        """
        ties = AIMET_TIES if tool == "aimet" else self.constraints.ties
        return replace(self, form=replace(self.form, beside=tool), constraints=replace(self.constraints, ties=ties))


_ROWS = (
    Target(
        name="portable",
        reads="onnxruntime in integer kernels, and whatever reads QDQ files: the default",
        in_onnxruntime=True,
        limits="values below 8 bits have a Clip on UINT8, which some compilers do not take: see their rows",
        verified=("onnxruntime 1.17.0, 1.31.1",),
        sources=(ORT_QUANTIZATION,),
    ),
    Target(
        name="onnxruntime",
        reads="onnxruntime on x86 and ARM: the same file as portable",
        in_onnxruntime=True,
        limits="8-bit weights saturate on x86 CPUs without VNNI: --reduce-range",
        verified=("onnxruntime 1.17.0, 1.31.1",),
        sources=(ORT_QUANTIZATION,),
    ),
    Target(
        name="openvino",
        reads="OpenVINO",
        constraints=Constraints(sums="fused"),
        limits="OpenVINO fuses a convolution with the Add behind it and drops Q/DQ between, so there are none",
        verified=("OpenVINO 2026.4.1",),
        sources=("https://docs.openvino.ai/2026/openvino-workflow/model-optimization.html",),
    ),
    Target(
        name="tensorrt",
        reads="TensorRT, by explicit quantization",
        constraints=Constraints(sums="fused", wide_values="symmetric"),
        form=Form(values="int8", clip="floats", bias="float"),
        limits="zero points are 0; INT4 is for weights of Gemm alone and is not used; 8 bits are its native width",
        sources=(
            "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html",
            "https://github.com/onnx/onnx-tensorrt/blob/main/onnxOpImporters.cpp (QuantDequantLinearHelper)",
        ),
    ),
    Target(
        name="qnn",
        reads="Qualcomm HTP, by onnxruntime's QNN execution provider",
        constraints=Constraints(
            selections="shared", outputs="rounded", gates="float", weight_grid="symmetric", value_bits=(8, 8)
        ),
        form=Form(weights="int4", clip="floats", batch="fixed"),
        limits="values have 8 bits; weights of at most 4 bits are INT4, all shapes are fixed, outputs are rounded; SiLU is fused",
        verified=("onnxruntime-qnn 2.7.0, HTP emulator",),
        sources=(ORT_QNN, HTP_INT4),
    ),
    Target(
        name="stm32n6",
        reads="ST Edge AI Core 3.0 and later, for the Neural-ART NPU of STM32N6",
        constraints=Constraints(selections="shared", weight_grid="symmetric", value_bits=(8, 8)),
        form=Form(weights="int4", values="signed", clip="floats", batch="fixed"),
        limits="values have 8 bits, signed; weights of at most 4 bits are INT4 in opset 21 (Conv and Dense, from 3.0 on), "
        "wider ones INT8",
        sources=(
            "https://stedgeai-dc.st.com/assets/embedded-docs/release_note.html",
            "https://stedgeai-dc.st.com/assets/embedded-docs/stneuralart_operator_support.html",
            "https://github.com/STMicroelectronics/stm32ai-modelzoo-services (README_QUANTIZATION_TOOL.md: opset 21 for 4 bits)",
        ),
    ),
    Target(
        name="tidl",
        reads="TI Deep Learning (TDA4VM and later), prequantized models",
        constraints=Constraints(selections="shared", wide_values="symmetric", value_bits=(8, 8)),
        form=Form(values="int8", clip="floats", batch="fixed"),
        limits="values have 8 bits, all symmetric: TDA4VM takes nothing else",
        sources=("https://github.com/TexasInstruments/edgeai-tidl-tools/blob/master/docs/quantization.md",),
    ),
    Target(
        name="rknn",
        reads="Rockchip NPUs, by rknn-toolkit2",
        constraints=Constraints(selections="shared", pools="shared", gates="float", value_bits=(8, 8)),
        form=Form(clip="floats", largest_opset=19, batch="fixed"),
        limits="values have 8 bits (an integer Clip is not understood, one on floats costs 2 to 3 % of the range); opset 19 at "
        "most; average pools compute on the grid of what they read, and SiLU is fused",
        verified=("rknn-toolkit2 2.5.0, simulator",),
        sources=("rknn-toolkit2: its own messages, and comparison with its simulator",),
    ),
    Target(
        name="vitis",
        reads="AMD Vitis AI (DPU), Quark's XINT8 form",
        constraints=Constraints(
            selections="shared",
            wide_values="symmetric",
            weight_grid="symmetric",
            weight_scale="tensor",
            scales="power-of-two",
            value_bits=(8, 8),
        ),
        form=Form(values="int8", clip="floats", batch="fixed"),
        limits="values have 8 bits; one power-of-two scale a tensor, weights too",
        sources=(
            "https://docs.amd.com/r/en-US/ug1414-vitis-ai",
            "https://github.com/ModelTC/MQBench/blob/main/docs/source/user_guide/hardware/vitis.rst",
        ),
    ),
    Target(
        name="tvm",
        reads="Apache TVM (relax)",
        limits="computes in floats behind Q/DQ; INT4 is not read",
        verified=("TVM 0.27.0.post1",),
    ),
    Target(
        name="iree",
        reads="IREE (iree-import-onnx, llvm-cpu)",
        form=Form(clip="floats"),
        limits="a Clip on UINT8 compares codes as signed, so values are clipped as floats; INT4 is not read",
        verified=("IREE 3.13.0",),
    ),
    Target(
        name="opencv",
        reads="OpenCV's dnn (4.14, or 5 with ENGINE_CLASSIC)",
        form=Form(clip="floats"),
        limits="computes in floats behind Q/DQ, and takes no integer Clip; the new engine of 5.0 takes no Q/DQ: encodings",
        verified=("OpenCV 4.14.0, 5.0.0 (ENGINE_CLASSIC)",),
    ),
    Target(
        name="int4",
        reads="runtimes with native INT4 weights (onnxruntime from 1.19): half the size",
        in_onnxruntime=True,
        form=Form(weights="int4"),
        limits="opset 21; onnxruntime unpacks such weights on every run and computes in floats; values stay UINT8, because "
        "no onnxruntime (1.19 to 1.31) loads UINT4 values beside INT8 weights at its default settings",
        verified=("onnxruntime 1.31.1",),
        sources=(ORT_QUANTIZATION,),
    ),
    Target(
        name="qonnx",
        reads="FINN, hls4ml, and other tools that take QONNX (Quant nodes)",
        constraints=Constraints(weight_grid="symmetric", value_grid="unshifted"),
        form=Form(style="qonnx", clip="floats", bias="float", batch="fixed"),
        limits="no zero points, as FINN takes none; weights are floats in the file, so it is no smaller than the float model",
        verified=("qonnx 1.0.0",),
        sources=(QONNX, FINN),
    ),
    Target(
        name="hls4ml",
        reads="hls4ml: C++ for FPGAs, from QONNX",
        constraints=Constraints(weight_grid="symmetric", weight_scale="mixed", value_grid="unshifted", scales="power-of-two"),
        form=Form(style="qonnx", clip="floats", reader="hls4ml", batch="fixed"),
        limits="no zero points, scales are powers of two: one a channel of a convolution of one group, else one a tensor; "
        "averages are convolutions, over a power of two of positions; other operators than Conv (2 dimensions), Gemm, "
        "MatMul, Add, Relu, MaxPool, Flatten and Reshape are refused",
        verified=("hls4ml 1.3.0, compiled by g++", "qonnx 1.0.0"),
        sources=(HLS4ML,),
    ),
    Target(
        name="litert",
        reads="LiteRT, TensorFlow Lite for Microcontrollers, and Vela (Arm Ethos-U)",
        constraints=Constraints(
            selections="shared", pools="shared", outputs="rounded", weight_grid="symmetric", weight_codes="narrow"
        ),
        form=Form(style="tflite", batch="fixed"),
        limits="an integer .tflite file, NHWC, batch fixed, INT8 throughout: values below 8 bits are clamped in it; the .onnx "
        "file beside it is what was judged. Kernels round in fixed point, which moves some values by one code",
        verified=("ai-edge-litert 2.3.0", "ethos-u-vela 5.2.0"),
        sources=(LITERT,),
    ),
    Target(
        name="encodings",
        reads="compilers that take a float model and ranges beside it (Hailo, MNN, ncnn)",
        constraints=Constraints(selections="shared"),  # a table of grids by value cannot say that one reader takes floats
        form=Form(style="float", bias="float"),
        limits="the compiler has to take the grids from the JSON file; without them it will calibrate by itself",
        verified=("onnxruntime 1.31.1 (the float model)",),
    ),
)

TARGETS: dict[str, Target] = {row.name: row for row in _ROWS}
PORTABLE = TARGETS["portable"]


def target_from_json(raw: Mapping[str, Any]) -> Target:
    """Return the row that `dataclasses.asdict` made `raw` of, also by way of JSON. Raises TypeError for unknown fields."""
    row = _tuples(raw)
    return Target(**{**row, "constraints": Constraints(**_tuples(row["constraints"])), "form": Form(**_tuples(row["form"]))})


def _tuples(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(entry) if isinstance(entry, list) else entry for key, entry in raw.items()}
