"""Towers that write features of their own: cosines of exactly 0, and no gradient below them yet."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin


class Towers(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, outputs))
        self.b = nn.Sequential(nn.Linear(30, width), nn.ReLU(), nn.Linear(width, outputs))

    def forward(self, a, b):
        return 9 * F.normalize(self.a(a), dim=-1) @ F.normalize(self.b(b), dim=-1).T


@pytest.mark.parametrize(("width", "outputs"), [(192, 48), (96, 160)], ids=["narrow", "wide"])
def test_predicted_as_measured(width, outputs):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(48, 20, generator=generator), torch.randn(48, 30, generator=generator)
    model = Towers(width, outputs)
    plan = fanin.plan(model, inputs)
    fanin.apply(plan, model)
    measured, predicted = fanin.measure(model, inputs), fanin.predict(model, inputs, plan)
    by_operation = {}
    for tensor, found in measured.tensors.items():
        guess = predicted.tensors[tensor]
        by_operation.setdefault(found.operation, []).append((found, guess))
        # Two layers of widths near 100: one standard error of a power is under 3 %.
        assert guess.rms == pytest.approx(found.rms, rel=0.12, abs=1e-9), found.operation
        if found.gradient_rms is not None:
            assert guess.gradient_rms == pytest.approx(found.gradient_rms, rel=0.12, abs=1e-9)
    assert all(found.rms == guess.rms == 0 for found, guess in by_operation["mm"])
    assert all(found.gradient_rms == 0 for found, _ in by_operation["relu"])
    assert all(found.gradient_rms > 0 for found, _ in by_operation["div"])
