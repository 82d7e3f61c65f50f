"""The learning rate on a plateau, against torch's own scheduler."""

from __future__ import annotations

import torch

from genie_onnx.synthesis.plateau import PlateauRate


def test_same_rates_as_torch() -> None:
    random = torch.Generator().manual_seed(0)
    losses = (torch.linspace(3, 1, 400).clamp_min(1.5) + 0.2 * torch.rand(400, generator=random)).tolist()
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, patience=10, min_lr=1e-4)
    ours = PlateauRate(0.1, device=torch.device("cpu"), patience=10)
    rates = []
    for loss in losses:
        scheduler.step(loss)
        ours.step(torch.tensor(loss))
        rates.append(float(ours.rate))
        assert abs(rates[-1] - optimiser.param_groups[0]["lr"]) < 1e-6 * rates[-1]
    assert rates[0] == torch.tensor(0.1)
    assert rates[-1] == torch.tensor(1e-4), "the floor is reached"


def test_published_patience() -> None:
    ours = PlateauRate(0.1, device=torch.device("cpu"))
    rates = [(ours.step(torch.tensor(1.0)), float(ours.rate))[1] for _ in range(103)]
    assert rates[100] > 0.09 > 0.011 > rates[101] > 0.009


def test_rate_tensor_is_the_same_object() -> None:
    ours = PlateauRate(0.1, device=torch.device("cpu"), patience=0)
    rate = ours.rate
    for _ in range(3):
        ours.step(torch.tensor(1.0))
    assert rate is ours.rate
    assert float(rate) < 0.1
