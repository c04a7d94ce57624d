"""Norms of rows that a matrix made of few numbers, and of channels behind matrices and views.

Against draws of the whole net; 256 rows and 40 draws leave 1 to 2 % of chance, a little more where
narrow rows make heavy tails.
"""

import numpy as np
import pytest
import torch
from building_blocks import Module, batch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.propagation.few import rows_apart


def ratios(model, inputs, operations=("mm", "addmm", "convolution"), draws=40):
    """Predicted over measured gradient RMS of these operations' outputs, in running order."""
    torch.manual_seed(0)
    plan = fanin.plan(model, inputs, "he_normal")

    def gradients(signals):
        return np.array([s.gradient_rms for s in signals.tensors.values()
                         if s.operation in operations and s.gradient_rms])  # fmt: skip

    squares = []
    for seed in range(draws):
        fanin.apply(plan, model, seed=seed)
        squares.append(gradients(fanin.measure(model, inputs)) ** 2)
    return gradients(fanin.predict(model, inputs, plan)) / np.sqrt(np.mean(squares, 0))


def behind_a_bottleneck(act, narrow, wide):
    def run(m, x):
        return m.head(m.norm(m.up(act(m.down(m.before(x))))))

    return Module(
        run, before=nn.LayerNorm(wide), down=nn.Linear(wide, narrow, bias=False),
        up=nn.Linear(narrow, wide, bias=False), norm=nn.LayerNorm(wide), head=nn.Linear(wide, 64),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("act", "narrow", "wide"),
    [(F.silu, 20, 120), (F.gelu, 48, 20), (torch.tanh, 10, 60), (torch.abs, 14, 50)],
    ids=["silu", "gelu", "tanh", "abs"],
)
def test_rows_of_few_numbers(act, narrow, wide):
    """Rows of 20 SiLUs differ in power by a third: the norm behind divides by less.

    What it took off along its row is a twentieth of what the SiLUs receive, not a 120th.
    """
    found = ratios(behind_a_bottleneck(act, narrow, wide), batch(256, wide))
    assert np.allclose(found, 1, atol=0.05)


def test_rows_that_are_stretched_alike():
    """A matrix of 10 numbers, none bent: rows have the spread of 10 numbers, then of 90."""
    found = ratios(behind_a_bottleneck(lambda z: z * 1.0, 10, 90), batch(256, 90))
    assert np.allclose(found, 1, atol=0.03)


def test_the_part_that_rows_have_from_elsewhere():
    few, rows = rows_apart(0.32, 0.1)
    assert (1 + few) * (1 + rows) == pytest.approx(1.32)
    assert rows_apart(0.05, 0.1) == (0.05, 0.0)


@pytest.mark.parametrize("narrow", [6, 16])
def test_batch_norms_behind_matrices_of_few_inputs(narrow):
    """1/Σw² is large where a channel's weights are small; the same weights take it back."""

    def run(m, x):
        h = m.up(torch.relu(m.down(x)))
        return m.head(m.norm(h.flatten(0, 1)).reshape(h.shape))

    found = ratios(
        Module(run, down=nn.Linear(80, narrow, bias=False), up=nn.Linear(narrow, 80, bias=False),
               norm=nn.BatchNorm1d(80), head=nn.Linear(80, 64)),
        batch(8, 14, 80),
    )  # fmt: skip
    assert np.allclose(found, 1, atol=0.035)


def test_instance_norms_of_few_weights():
    """An instance norm is a batch norm of one sample, whose channels are seen through a view."""

    def run(m, x):
        return m.head(m.norm(m.up(torch.relu(m.down(x)))))

    found = ratios(
        Module(run, down=nn.Conv2d(30, 4, 1, bias=False), up=nn.Conv2d(4, 30, 3, bias=False),
               norm=nn.InstanceNorm2d(30), head=nn.Conv2d(30, 48, 1)),
        batch(3, 30, 9, 9),
    )  # fmt: skip
    assert np.allclose(found, 1, atol=0.05)
