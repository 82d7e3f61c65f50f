"""A residual CNN of flax through jax2onnx: cnn-nhwc as it does by default, cnn-nchw with inputs_as_nchw."""

from __future__ import annotations

from pathlib import Path

import exporting
import jax
import jax.numpy as jnp
import jax2onnx
from flax import nnx

SIZE = 64
WIDTHS = (16, 16, 32, 64)


class Block(nnx.Module):
    """relu(conv-bn-relu-conv-bn(x) + conv-bn(x)), at half the size."""

    def __init__(self, width: int, out: int, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(width, out, (3, 3), strides=2, use_bias=False, rngs=rngs)
        self.second = nnx.Conv(out, out, (3, 3), use_bias=False, rngs=rngs)
        self.skip = nnx.Conv(width, out, (1, 1), strides=2, use_bias=False, rngs=rngs)
        self.norms = nnx.List([nnx.BatchNorm(out, momentum=0.0, rngs=rngs) for _ in range(3)])

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.norms[0](self.first(x)))
        return nnx.relu(self.norms[1](self.second(y)) + self.norms[2](self.skip(x)))


class Cnn(nnx.Module):
    """[N, 64, 64, 3] -> 10 scores."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.blocks = nnx.List([Block(a, b, rngs) for a, b in zip((3, *WIDTHS), WIDTHS, strict=False)])
        self.head = nnx.Linear(WIDTHS[-1], 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


def export(name: str, file: Path) -> None:
    model = Cnn(nnx.Rngs(0))
    model(jax.random.normal(jax.random.key(0), (64, SIZE, SIZE, 3)))  # momentum 0: the statistics are those of this batch
    model.eval()
    channels_first = [0] if name.endswith("nchw") else None
    jax2onnx.to_onnx(model, [("B", SIZE, SIZE, 3)], inputs_as_nchw=channels_first, return_mode="file", output_path=str(file))


if __name__ == "__main__":
    exporting.main(export)
