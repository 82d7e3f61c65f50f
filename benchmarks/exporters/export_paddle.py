"""paddle.vision's networks through paddle.onnx.export."""

from __future__ import annotations

from pathlib import Path

import exporting
import paddle

SIZE = 64


def export(name: str, file: Path) -> None:
    paddle.seed(0)
    model = getattr(paddle.vision.models, name)(num_classes=10)
    model.train()
    with paddle.no_grad():
        for _ in range(20):  # its running statistics have a momentum of 0.9
            model(paddle.randn([8, 3, SIZE, SIZE]))
    model.eval()
    image = paddle.static.InputSpec([None, 3, SIZE, SIZE], "float32", "image")
    paddle.onnx.export(model, str(file.with_suffix("")), input_spec=[image], opset_version=9)


if __name__ == "__main__":
    exporting.main(export)
