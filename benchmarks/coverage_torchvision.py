"""torchvision's architectures with random weights. It is no requirement of this project: without it the rows are left out.

Its wheel wants the torch that it was built for, and fails to import with another build ("operator torchvision::nms does not
exist"); the operators that it then lacks select boxes, and are in no network here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, library, nn

_OPERATORS = library.Library("torchvision", "FRAGMENT")  # operators live as long as the library that defined them

SIZES = {
    "resnet18": 64,
    "resnet50": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "mnasnet1_0": 64,
    "regnet_x_400mf": 64,
    "regnet_y_400mf": 64,
    "efficientnet_b0": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "densenet121": 64,
    "googlenet": 64,
    "inception_v3": 96,  # its stem leaves nothing of less than 75
    "vgg11_bn": 224,  # an adaptive pool that the legacy exporter takes at no other size
    "convnext_tiny": 64,
    "vit_b_16": 64,
    "lraspp_mobilenet_v3_large": 64,
    "ssdlite_backbone": 64,
    "fcos": 64,
}
"""Every network, and the height and width at which it is exported: small, because the table is about what works."""

FEW_SHOT = ("convnext_tiny", "vit_b_16")
"""Networks without BatchNormalization of their own, calibrated on images."""


class Heads(nn.Module):
    """A network that returns a dictionary, as one that returns a tuple."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model(x).values())


class Detector(nn.Module):
    """The part of a torchvision detector that is a network: backbone and head, without anchors and the selection of boxes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.head(list(self.backbone(x).values())).values())


def build(name: str, size: int) -> nn.Module:
    """Return the network with random weights in training mode. Raises ImportError where torchvision cannot be had."""
    models = _torchvision()
    special: dict[str, Callable[[], nn.Module]] = {
        "googlenet": lambda: models.googlenet(weights=None, aux_logits=False, init_weights=False),
        "inception_v3": lambda: models.inception_v3(weights=None, aux_logits=False, init_weights=False),
        "vit_b_16": lambda: models.vit_b_16(weights=None, image_size=size),
        "lraspp_mobilenet_v3_large": lambda: Heads(
            models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
        ),
        "ssdlite_backbone": lambda: Heads(
            models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).backbone
        ),
        "fcos": lambda: Detector(models.detection.fcos_resnet50_fpn(weights=None, weights_backbone=None)),
    }
    return special[name]() if name in special else getattr(models, name)(weights=None)


def _torchvision() -> Any:
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            _OPERATORS.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import models

    return models
