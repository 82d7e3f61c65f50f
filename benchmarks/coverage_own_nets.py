"""Networks of shapes that torchvision lacks, small and with random weights: [N, C, H, W] in, one or several values out."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(c_in: int, c_out: int, kernel: int = 3, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Sequential:
    """Conv, BatchNorm, SiLU."""
    pad = dilation * (kernel - 1) // 2
    layer = nn.Conv2d(c_in, c_out, kernel, stride, pad, dilation, groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(c_out), nn.SiLU())


class UNet(nn.Module):
    """Three levels, skips joined by Concat; `learned` upsampling is a ConvTranspose, else bilinear."""

    def __init__(self, learned: bool, channels: int = 3, width: int = 8) -> None:
        super().__init__()
        self.down = nn.ModuleList([self._level(channels, width), self._level(width, 2 * width)])
        self.bottom = self._level(2 * width, 4 * width)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(c, c // 2, 2, 2)
            if learned
            else nn.Sequential(nn.UpsamplingBilinear2d(scale_factor=2), nn.Conv2d(c, c // 2, 1))
            for c in (4 * width, 2 * width)
        )
        self.decode = nn.ModuleList([self._level(4 * width, 2 * width), self._level(2 * width, width)])
        self.out = nn.Conv2d(width, 2, 1)

    @staticmethod
    def _level(c_in: int, c_out: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for c in (c_in, c_out):
            layers += [nn.Conv2d(c, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, decode, skip in zip(self.up, self.decode, reversed(skips), strict=True):
            x = decode(torch.cat([skip, up(x)], 1))
        return torch.sigmoid(self.out(x))


class C2f(nn.Module):
    """YOLOv8's block: split in two, bottlenecks in a row, everything joined."""

    def __init__(self, c_in: int, c_out: int, depth: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        self.width = c_out // 2
        self.first = conv(c_in, c_out, 1)
        self.inner = nn.ModuleList(
            nn.Sequential(conv(self.width, self.width), conv(self.width, self.width)) for _ in range(depth)
        )
        self.last = conv((2 + depth) * self.width, c_out, 1)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).split(self.width, 1))
        for inner in self.inner:
            y = inner(parts[-1])
            parts.append(parts[-1] + y if self.shortcut else y)
        return self.last(torch.cat(parts, 1))


class Yolo(nn.Module):
    """Backbone of C2f and SPPF, a neck that goes up and down, three heads joined to [N, 4 + classes, anchors]."""

    def __init__(self, classes: int = 3, w: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, w, 3, 2), conv(w, 2 * w, 3, 2), C2f(2 * w, 2 * w))
        self.p3 = nn.Sequential(conv(2 * w, 4 * w, 3, 2), C2f(4 * w, 4 * w, 2))
        self.p4 = nn.Sequential(conv(4 * w, 8 * w, 3, 2), C2f(8 * w, 8 * w))
        self.squeeze, self.spread = conv(8 * w, 4 * w, 1), conv(16 * w, 8 * w, 1)
        self.up = C2f(12 * w, 4 * w, shortcut=False)
        self.back = conv(4 * w, 4 * w, 3, 2)
        self.down = C2f(12 * w, 8 * w, shortcut=False)
        self.boxes = nn.ModuleList(nn.Sequential(conv(c, w), nn.Conv2d(w, 4, 1)) for c in (4 * w, 8 * w))
        self.scores = nn.ModuleList(nn.Sequential(conv(c, w), nn.Conv2d(w, classes, 1)) for c in (4 * w, 8 * w))

    def forward(self, x: Tensor) -> Tensor:
        p3 = self.p3(self.stem(x))
        p4 = self.squeeze(self.p4(p3))
        pooled = [p4]
        for _ in range(3):
            pooled.append(F.max_pool2d(pooled[-1], 5, 1, 2))
        p4 = self.spread(torch.cat(pooled, 1))
        p3 = self.up(torch.cat([F.interpolate(p4, scale_factor=2.0), p3], 1))
        p4 = self.down(torch.cat([self.back(p3), p4], 1))
        heads = zip((p3, p4), self.boxes, self.scores, strict=True)
        return torch.cat([torch.cat([box(p), score(p).sigmoid()], 1).flatten(2) for p, box, score in heads], 2)


class Residual(nn.Module):
    """A residual block: Conv BN ReLU Conv BN + x, ReLU; `early`: BN ReLU Conv BN ReLU Conv + x, whose BN no conv can take."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1, early: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn_a, self.bn_b = nn.BatchNorm2d(c_in if early else c_out), nn.BatchNorm2d(c_out)
        self.skip = nn.Conv2d(c_in, c_out, 1, stride, bias=False) if stride > 1 or c_in != c_out else nn.Identity()
        self.early = early

    def forward(self, x: Tensor) -> Tensor:
        if self.early:
            y = torch.relu(self.bn_a(x))
            return self.skip(y) + self.b(torch.relu(self.bn_b(self.a(y))))
        return torch.relu(self.skip(x) + self.bn_b(self.b(torch.relu(self.bn_a(self.a(x))))))


def residual_net(early: bool, channels: int = 3) -> nn.Sequential:
    """A ResNet-8."""
    stem = [nn.Conv2d(channels, 8, 3, padding=1, bias=False)] + ([] if early else [nn.BatchNorm2d(8), nn.ReLU()])
    stages = [Residual(8, 8, early=early), Residual(8, 16, 2, early), Residual(16, 32, 2, early)]
    end = [nn.BatchNorm2d(32), nn.ReLU()] if early else []
    return nn.Sequential(*stem, *stages, *end, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def deconvolution_net() -> nn.Sequential:
    """Down by convolutions, up by ConvTransposes with output padding, groups and overlapping kernels."""
    return nn.Sequential(
        conv(3, 16, 3, 2),
        conv(16, 32, 3, 2),
        nn.ConvTranspose2d(32, 16, 3, 2, 1, output_padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.LeakyReLU(0.1),
        nn.ConvTranspose2d(16, 16, 4, 2, 1, groups=4),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 3, 3, padding=1),
        nn.Tanh(),
    )


def grouped_dilated_net() -> nn.Sequential:
    """Grouped, dilated, depthwise and asymmetric kernels, PReLU, ReLU6, hard swish, Softmax."""
    return nn.Sequential(
        nn.Conv2d(3, 16, (3, 5), padding=(1, 2)),
        nn.BatchNorm2d(16),
        nn.PReLU(16),
        conv(16, 16, groups=4),
        conv(16, 32, dilation=2),
        nn.Conv2d(32, 32, 3, padding=4, dilation=4, groups=32),
        nn.BatchNorm2d(32),
        nn.ReLU6(),
        nn.Conv2d(32, 16, (1, 7), (1, 2), (0, 3), groups=2),
        nn.Hardswish(),
        nn.AvgPool2d(3, 2, 1),
        nn.ReflectionPad2d((0, 1, 1, 0)),
        nn.Conv2d(16, 8, 3),
        nn.ELU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
        nn.Softmax(1),
    )


class Tied(nn.Module):
    """One head for three levels of a pyramid, and one conv used twice in a row: weights that several nodes read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16, 3, 2)
        self.levels = nn.ModuleList(conv(16, 16, 3, 2) for _ in range(3))
        self.twice = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 6, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        x = torch.relu(self.twice(torch.relu(self.twice(x))))
        found = []
        for level in self.levels:
            x = level(x)
            found.append(self.head(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 3))
        return tuple(found)


class Mixer(nn.Module):
    """Attention, LayerNorm and Gelu between convolutions; a squeeze-excite gate; channel shuffle; pixel shuffle."""

    def __init__(self, w: int = 16) -> None:
        super().__init__()
        self.stem = conv(3, w, 4, 4)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(w, 4, 1), nn.ReLU(), nn.Conv2d(4, w, 1), nn.Hardsigmoid())
        self.norm, self.attention = nn.LayerNorm(w), nn.MultiheadAttention(w, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(w), nn.Linear(w, 2 * w), nn.GELU(), nn.Linear(2 * w, w))
        self.instance = nn.Sequential(nn.Conv2d(w, w, 1), nn.InstanceNorm2d(w), nn.GroupNorm(4, w), nn.Mish())
        self.out = nn.Sequential(nn.Conv2d(w, 16, 1), nn.PixelShuffle(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x * self.gate(x)
        y = x.flatten(2).transpose(1, 2)
        z = self.norm(y)
        y = y + self.attention(z, z, z, need_weights=False)[0]
        y = y + self.mlp(y)
        y = self.instance(y.transpose(1, 2).reshape(x.shape))
        return self.out(y.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "unet": (lambda: UNet(learned=True), (3, 32, 32)),
    "unet_bilinear": (lambda: UNet(learned=False), (3, 32, 32)),
    "yolo": (Yolo, (3, 64, 64)),
    "gray": (lambda: residual_net(early=False, channels=1), (1, 28, 28)),
    "deconvolution": (deconvolution_net, (3, 32, 32)),
    "preactivation_resnet": (lambda: residual_net(early=True), (3, 32, 32)),
    "grouped_dilated": (grouped_dilated_net, (3, 33, 47)),
    "tied": (Tied, (3, 64, 64)),
    "mixer": (Mixer, (3, 32, 32)),
}
"""Every network: how to make it, and the (C, H, W) at which it is exported."""
