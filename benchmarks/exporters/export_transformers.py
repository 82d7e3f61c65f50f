"""Vision networks of transformers, small configurations with random weights, through torch's default exporter."""

from __future__ import annotations

from pathlib import Path

import exporting
import torch
import torch_nets
import transformers

SIZE = 64


class Logits(torch.nn.Module):
    """A network with tensors as outputs, in place of the library's own classes."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Scores, and boxes where there are some."""
        found = self.model(pixel_values)
        return (found.logits, found.pred_boxes) if "pred_boxes" in found else (found.logits,)


def rtdetr_r18() -> torch.nn.Module:
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=64,
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=[128, 256, 512],
        decoder_layers=3,
        num_queries=20,
        hidden_expansion=0.5,
        num_denoising=0,
    )
    return transformers.RTDetrForObjectDetection(config)


def segformer_b0() -> torch.nn.Module:
    return transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig())


def mobilevit_xxs() -> torch.nn.Module:
    config = transformers.MobileViTConfig(
        image_size=SIZE, hidden_sizes=[64, 80, 96], neck_hidden_sizes=[16, 16, 24, 48, 64, 80, 320], expand_ratio=2.0
    )
    return transformers.MobileViTForImageClassification(config)


NETS = {made.__name__: made for made in (rtdetr_r18, segformer_b0, mobilevit_xxs)}


def export(name: str, file: Path) -> None:
    torch.manual_seed(0)
    torch_nets.export(torch_nets.settle(Logits(NETS[name]()), SIZE), SIZE, file)


if __name__ == "__main__":
    exporting.main(export)
