"""Train the example: a small CNN for handwritten digits, exported to ONNX as one would for quantization without data.

    python examples/train_digits.py [FOLDER]

writes digits.onnx and digits_test.npz (both are kept in this folder, so that nobody has to) and prints the float accuracy on the
test images. Takes about a minute on a CPU. Needs scikit-learn: its 1,797 digits of 8 x 8 pixels are scaled to 16 x 16, turned,
moved and made noisy, so that the cost of few bits shows.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

SEED = 0
SIZE = 16  # height and width of an image
TEST = 500  # images held out of training
EPOCHS = 40
BATCH = 64


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and its BatchNorm; the spatial size is divided by `stride`."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)
    )


class Residual(nn.Module):
    """relu(x + conv(relu(conv(x))))"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), nn.ReLU(), conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class Digits(nn.Module):
    """float32 [N, 1, 16, 16] (mean 0, std 1 over the data) -> logits [N, 10]; one of each block small CNNs are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(conv(1, 16), nn.ReLU()),  # [16, 16, 16]
            *(conv(16, 24, stride=2), nn.ReLU()),  # [24, 8, 8]
            Residual(24),
            *(
                conv(24, 24, stride=2, groups=24),
                nn.ReLU(),
                conv(24, 48, kernel=1),
                nn.ReLU(),
            ),  # depthwise and pointwise, [48, 4, 4]
            Residual(48),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),  # [48]
        )
        self.classifier = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return [N, 1, H, W] (0..1) turned by up to 20 degrees, scaled by 0.8 to 1.15, moved by up to 2 pixels, and with noise."""
    count = len(images)
    angle, scale, dx, dy = (torch.rand(4, count, generator=generator) * 2 - 1).unbind()
    angle, scale = angle * math.radians(20), 1 / (0.975 + 0.175 * scale)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    theta = torch.stack([torch.stack([cos, -sin, dx * 4 / SIZE], 1), torch.stack([sin, cos, dy * 4 / SIZE], 1)], 1)  # [N, 2, 3]
    moved = F.grid_sample(images, F.affine_grid(theta, list(images.shape), align_corners=False), align_corners=False)
    return moved + 0.15 * torch.randn(moved.shape, generator=generator)


def train(model: nn.Module, images: Tensor, labels: Tensor, normalise: tuple[float, float], generator: torch.Generator) -> None:
    """Fit `model` to images [N, 1, H, W] (0..1) and labels [N], distorted anew in every epoch."""
    mean, std = normalise
    steps = EPOCHS * (len(images) // BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    model.train()
    for _ in range(steps):
        index = torch.randint(len(images), (BATCH,), generator=generator)
        batch = (distort(images[index], generator) - mean) / std
        loss = F.cross_entropy(model(batch), labels[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    model.eval()


def main(folder: Path) -> None:
    torch.manual_seed(SEED)  # initial weights
    generator = torch.Generator().manual_seed(SEED)
    digits = load_digits()
    images = F.interpolate(torch.from_numpy(digits.images / 16).float()[:, None], size=(SIZE, SIZE), mode="bilinear")
    labels = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(images), generator=generator)
    test, rest = order[:TEST], order[TEST:]

    sample = distort(images[rest], generator)
    normalise = (sample.mean().item(), sample.std().item())
    model = Digits()
    train(model, images[rest], labels[rest], normalise, generator)

    test_images = (distort(images[test], generator) - normalise[0]) / normalise[1]
    with torch.inference_mode():
        accuracy = (model(test_images).argmax(1) == labels[test]).float().mean().item()
    print(f"float accuracy on {TEST} test images: {100 * accuracy:.1f} %")

    np.savez_compressed(
        folder / "digits_test.npz", images=test_images.numpy(), labels=labels[test].numpy().astype(np.uint8), space="model"
    )
    torch.onnx.export(
        model,
        (test_images[:1],),
        str(folder / "digits.onnx"),
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,  # both lines: keep BatchNormalization, which the images are distilled from
        do_constant_folding=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        opset_version=17,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
