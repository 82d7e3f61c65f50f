"""Networks of keras.applications with random weights, channels last, and BatchNorm statistics as if measured."""

from __future__ import annotations

import keras
import numpy as np

SIZE = 64


def made(name: str) -> keras.Model:
    """Return the network [N, 64, 64, 3] -> 10 scores; called once, since Keras exports nothing else."""
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(input_shape=(SIZE, SIZE, 3), weights=None, classes=10)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = tuple(layer.moving_mean.shape)
            layer.moving_mean.assign(random.normal(0, 0.1, shape))
            layer.moving_variance.assign(random.uniform(0.5, 1.5, shape))
    model(np.zeros((1, SIZE, SIZE, 3), np.float32))
    return model
