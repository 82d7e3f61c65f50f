"""A block at its final codes: what the file computes, as a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from genie_onnx.blocks import Block
from genie_onnx.importer import Network
from genie_onnx.placement import Placement
from genie_onnx.qparams import QParams, bias_codes, bias_scale
from genie_onnx.quant import Grid
from genie_onnx.reconstruct.codes import Codes
from genie_onnx.reconstruct.student import BiasArgument, Student, build, initializer
from genie_onnx.targets import PORTABLE, Form


def unlearned(block: Block, network: Network, placement: Placement, grids: Mapping[str, Grid], codes: Codes) -> Codes:
    """Return the searched grids of what `block` rounds and no optimisation has touched (a block without weights)."""
    student = build(network, block, placement, {name: int(g.zero_point) for name, g in grids.items()}, None)
    missing = [name for name in student.scales if name not in codes.activations]
    return Codes(activations={name: settled(name, grids[name].scale, grids, placement) for name in missing})


def settled(name: str, scale: Tensor, grids: Mapping[str, Grid], placement: Placement) -> QParams:
    """Return the grid of the ActivationSpec `name` at its final `scale` (0-dim)."""
    spec = placement.activation_of(name)
    assert spec is not None
    return QParams(bits=spec.bits, scale=float32(scale), zero_point=np.array(int(grids[name].zero_point), dtype=np.int64))


def float32(tensor: Tensor) -> np.ndarray:
    """Return a tensor as a float32 array."""
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float32)


def final_block(
    network: Network, block: Block, placement: Placement, codes: Codes, device: torch.device, form: Form = PORTABLE.form
) -> Callable[..., tuple[Tensor, ...]]:
    """Return `block` as a function at its final codes, biases as the file stores them."""
    student = build(network, block, placement, {n: int(q.zero_point) for n, q in codes.activations.items()}, None)
    weights = {w: torch.from_numpy(codes.weights[w].dequantize()).to(device) for w in student.weights}
    scales = {name: torch.tensor(codes.activations[name].scale, device=device) for name in student.scales}
    biases = biases_of(network, student, codes)
    if form.bias == "int32":
        biases = [_stored_bias(bias, b, codes) for bias, b in zip(biases, student.biases, strict=True)]
    return lambda *inputs: student(inputs, weights, biases, scales)


def biases_of(network: Network, student: Student, codes: Codes) -> list[Tensor]:
    """Return the biases of `student` in their order: those of `codes`, else the model's."""
    model = [initializer(network, b.bias) for b in student.biases]
    return [
        torch.from_numpy(codes.biases[b.bias]).to(own.device) if b.bias in codes.biases else own
        for own, b in zip(model, student.biases, strict=True)
    ]


def _stored_bias(bias: Tensor, argument: BiasArgument, codes: Codes) -> Tensor:
    """Return `bias` as its INT32 codes stand for, or unchanged where one would overflow (qparams.bias_codes)."""
    if argument.activation is None:
        return bias
    scale = bias_scale(codes.activations[argument.activation].scale, codes.weights[argument.weight].qparams.scale)
    rounded = bias_codes(bias.cpu().numpy(), scale)
    return bias if rounded is None else torch.from_numpy(rounded.astype(np.float32) * scale).to(bias.device)
