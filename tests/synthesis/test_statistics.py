"""Statistics measured on images: those that a BatchNorm layer would have stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graphs import graph
from small_bn_net import SHAPE, imported, small_bn_net

from genie_onnx.importer import import_graph
from genie_onnx.synthesis import measure, procedural, statistics
from genie_onnx.synthesis.bn_loss import mean_std

CPU = torch.device("cpu")


def images(count: int, offset: float = 0.0) -> torch.Tensor:
    return offset + procedural(count, SHAPE, mean=None, std=None, generator=torch.Generator().manual_seed(3))


def test_what_batchnorm_stored_is_found_again_on_such_images() -> None:
    """The network's statistics were measured on 256 dead leaves; 64 others give nearly the same, 4 already resemble them."""
    network, batchnorms = imported(small_bn_net())
    before = {name: p.clone() for name, p in network.module.named_parameters()}
    found = measure(network, [b.value for b in batchnorms], images(64), CPU)
    for ours, stored in zip(found, batchnorms, strict=True):
        assert ours.value == stored.value
        assert ours.mean.dtype == ours.std.dtype == np.float32
        np.testing.assert_allclose(ours.mean, stored.mean, atol=0.15 * stored.std.max())
        np.testing.assert_allclose(ours.std, stored.std, rtol=0.15)
    few = measure(network, [b.value for b in batchnorms], images(64)[:4], CPU)
    assert np.corrcoef(few[1].std, batchnorms[1].std)[0, 1] > 0.8
    assert all(torch.equal(p, before[name]) for name, p in network.module.named_parameters())


@pytest.mark.parametrize("size", [1, 3, 64])
def test_batches_add_up_to_the_statistics_of_the_whole(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far from zero as well, where the sums of squares lose digits."""
    network, _ = imported(small_bn_net())
    monkeypatch.setattr(statistics, "BATCH", size)
    x = images(7, offset=50.0)
    found = measure(network, ["a", "d"], x, CPU)
    whole = network.extract(network.inputs, ("a", "d"))({"image": x})
    for ours in found:
        mean, std = mean_std(whole[ours.value])
        np.testing.assert_allclose(ours.mean, mean, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(ours.std, std, rtol=1e-3)


def test_one_element_a_channel_has_no_deviation() -> None:
    """A squeeze-and-excitation layer on a single image is left out; on two it is there. A constant channel stays above zero."""
    net = graph(
        """net (float[N, 3, 16, 16] x, float[4, 3, 1, 1] w, float[4, 4, 1, 1] w2) => (float[N, 4, 1, 1] y) {
            c = Conv (x, w) p = GlobalAveragePool (c) y = Conv (p, w2) }"""
    )
    network = import_graph(net)
    assert [m.value for m in measure(network, ["c", "y"], images(1), CPU)] == ["c"]
    assert [m.value for m in measure(network, ["c", "y"], images(2), CPU)] == ["c", "y"]
    assert measure(network, [], images(2), CPU) == ()
    (flat,) = measure(network, ["c"], torch.ones(2, *SHAPE), CPU)
    assert (flat.std > 0).all()
    assert flat.std.max() < 1e-3
