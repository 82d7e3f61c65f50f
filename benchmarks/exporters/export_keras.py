"""keras.applications through Keras's own `Model.export`, of the backend that KERAS_BACKEND names."""

from __future__ import annotations

from pathlib import Path

import exporting
import keras_nets


def export(name: str, file: Path) -> None:
    keras_nets.made(name).export(str(file), format="onnx")


if __name__ == "__main__":
    exporting.main(export)
