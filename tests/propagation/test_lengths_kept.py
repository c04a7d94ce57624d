"""Orthonormal matrices before norms of rows: no chance in a row's power, no direction lost."""

import pytest
import torch
from building_blocks import batch
from torch import nn

import fanin
from fanin.schemes import Normal, Orthogonal


@pytest.mark.parametrize(
    "scheme", [Orthogonal(), Normal(std=16**-0.5)], ids=["orthogonal", "Gaussian"]
)
def test_gradients_through_matrices_before_norms_of_rows(scheme):
    """Of 16 numbers: taken for Gaussian ones, 8 orthogonal layers would be off by a third."""
    width, depth = 16, 8
    layers = [
        layer
        for _ in range(depth)
        for layer in (nn.Linear(width, width), nn.LayerNorm(width), nn.Tanh())
    ]
    net, x = nn.Sequential(*layers), batch(256, width)
    overrides = {f"{3 * k}.weight": scheme for k in range(depth)}
    overrides |= {f"{3 * k + 1}.weight": fanin.schemes.Constant(0.5) for k in range(depth)}
    plan = fanin.plan(net, x, overrides=overrides)
    predicted = fanin.predict(net, x, plan)
    squares = []
    for seed in range(24):
        fanin.apply(plan, net, seed=seed)
        run = fanin.measure(net, x)
        found = [s.gradient_rms for s in run.tensors.values() if s.operation == "addmm"]
        squares.append(torch.tensor(found) ** 2)
    truth = torch.stack(squares).mean(0).sqrt()
    found = [s.gradient_rms for s in predicted.tensors.values() if s.operation == "addmm"]
    assert found == pytest.approx(truth.tolist(), rel=0.12)
