"""Class inversion: who is a classifier, which image gets which class, and what the loss makes of them."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from small_bn_net import SHAPE, imported, small_bn_net
from torch import Tensor

from genie_onnx.config import DistillConfig
from genie_onnx.machine.compute import Compute
from genie_onnx.synthesis import distill
from genie_onnx.synthesis.classes import balanced_labels, class_loss, decisive

CPU = torch.device("cpu")


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_scores_decide_where_few_classes_are_left(classes: int) -> None:
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(32, classes, generator=random)
    assert not decisive(0.1 * noise)  # landmarks, a normalised embedding
    assert decisive(20 * noise)
    # exp(entropy) of m equal scores is m, whatever else is at nothing
    for share, verdict in ((0.6, True), (0.9, False)):
        scores = torch.full((4, 10_000), -1e4)
        scores[:, : round(10_000**share)] = 3.0
        assert decisive(scores) is verdict


@pytest.mark.parametrize(("images", "classes"), [(20, 10), (128, 10), (5, 7), (9, 2)])
def test_no_class_is_given_more_often_than_it_must(images: int, classes: int) -> None:
    scores = torch.randn(images, classes, generator=torch.Generator().manual_seed(1))
    scores[:, 0] += 10  # the favourite of every image
    labels = balanced_labels(scores)
    assert labels.shape == (images,)
    counts = Counter(labels.tolist())
    assert max(counts.values()) <= math.ceil(images / classes)
    assert min(labels.tolist()) >= 0


def test_an_image_gets_the_class_that_it_excites_more_than_others_do() -> None:
    scores = torch.tensor([[9.0, 1.0, 0.0], [9.5, 0.0, 1.0], [12.0, 0.0, 0.0]])  # by the highest score, all were class 0
    assert balanced_labels(scores).tolist() == [1, 2, 0]
    assert balanced_labels(torch.zeros(4, 2)).tolist() == [0, 0, 1, 1]  # nothing stands out, and nothing is divided by zero


def test_the_loss_is_the_surprise_at_the_label() -> None:
    scores = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    assert class_loss(scores, torch.tensor([0, 1])).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert class_loss(scores, torch.tensor([1, 1])).item() == pytest.approx((math.log(4) + math.log(2)) / 2)


def made(scores: str | None) -> Tensor:
    """The scores of 32 images made of leaves from the small network's statistics."""
    network, batchnorms = imported(small_bn_net())
    config = DistillConfig(iterations=60, batch_size=16, start="leaves")
    unit = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    images = distill(
        network, batchnorms, SHAPE, 32, config, **unit, seed=0, compute=Compute(CPU), progress=lambda p: None, scores=scores
    )
    found: Tensor = network({"image": images})["scores"].detach()
    return found


def test_images_are_made_of_every_class_when_asked() -> None:
    """As far as a network allows that was trained for no class: the rarer ones come nearer."""
    without, wanted = made(None).softmax(1).mean(0), made("scores").softmax(1).mean(0)
    rare = without < 0.1
    assert rare.any()
    assert (wanted[rare] > 1.5 * without[rare]).all()
