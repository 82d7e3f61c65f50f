"""keras.applications through tf2onnx: NET-nhwc as it does by default, NET-nchw with inputs_as_nchw."""

from __future__ import annotations

from pathlib import Path

import exporting
import keras_nets
import tensorflow as tf
import tf2onnx


def export(name: str, file: Path) -> None:
    net, _, layout = name.partition("-")
    signature = [tf.TensorSpec([None, keras_nets.SIZE, keras_nets.SIZE, 3], tf.float32, name="image")]
    channels_first = ["image"] if layout == "nchw" else None
    tf2onnx.convert.from_keras(
        keras_nets.made(net), input_signature=signature, inputs_as_nchw=channels_first, output_path=str(file)
    )


if __name__ == "__main__":
    exporting.main(export)
