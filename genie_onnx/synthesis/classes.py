"""Class inversion: images that a classifier is sure of, each class as often as any other.

    labels  y_i: each image gets a class, those first that an image excites most for its class (standardised over the images)
    loss    mean_i -log softmax(scores_i)[y_i]

On its own the loss is met by patterns that are no images; beside statistics that hold every layer to plausible values
(`plausible`) it makes images in which all that a network tells apart occurs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Of the loss, beside Eq. 5 on a ResNet-20: 0.1 and 1 end at the same distance to the true statistics, both with certainty.
WEIGHT = 0.1
TINY = 1e-6


def decisive(scores: Tensor) -> bool:
    """Whether `scores` [N, K] choose between classes: exp(mean entropy of their softmax) is at most K^(3/4).

    Measured on 32 procedural images, against K^(3/4): classifiers 1.6 to 2.4 of 10 (5.6), 1.63 of 2 (1.68) and 17 of 1000 (178);
    landmarks 134 of 136 (40).
    """
    logarithms = scores.log_softmax(1)
    entropy = -(logarithms.exp() * logarithms).sum(1).mean()
    return bool(entropy.exp() <= scores.shape[1] ** 0.75)


def balanced_labels(scores: Tensor) -> Tensor:
    """Return a class for each of N images, int64 [N]: no class more than ceil(N / K) times.

    `scores` float32 [N, K]. Greedy: the pair of image and class that stands out most among the images goes first.
    """
    deviation, mean = torch.std_mean(scores, 0, correction=0)
    standing = (scores - mean) / deviation.clamp_min(TINY)
    images, classes = scores.shape
    room = [-(-images // classes)] * classes
    labels = [-1] * images
    for place in standing.flatten().argsort(descending=True, stable=True).tolist():
        image, label = divmod(place, classes)
        if labels[image] < 0 and room[label]:
            labels[image] = label
            room[label] -= 1
    return torch.tensor(labels)


def class_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the loss, a scalar tensor: `scores` [N, K] against `labels` [N]."""
    return F.cross_entropy(scores, labels)
