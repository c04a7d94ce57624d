"""Stretches of a packed weight that differ in power, behind functions that bend.

The truth is the mean square over draws of the weights, whose blocks have the stds that the plan
says; one in √(2·256·24) numbers leaves 1 %.
"""

import dataclasses

import pytest
import torch
from building_blocks import Module, batch, dense
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.axes import Axes
from fanin.propagation.pieces import Pieces
from fanin.schemes import Normal
from fanin.schemes.blockwise import Blockwise

N = 128
SIZES, STDS = (96, 32, 64), (0.25, 0.05, 0.1)


def bent_before_it_is_split(m, x):
    large, small, middle = F.silu(m.packed(m.first(x))).split(SIZES, dim=-1)
    return m.one(large) + m.two(small) + m.three(middle.tanh())


def network():
    return Module(
        bent_before_it_is_split,
        first=dense(N, N),
        packed=dense(N, sum(SIZES)),
        one=dense(96, N),
        two=dense(32, N),
        three=dense(64, N),
    )


def test_a_function_bends_each_stretch_by_its_own_power():
    x = batch(16, N)
    torch.manual_seed(0)
    net = network()
    blocks = Blockwise(tuple(Normal(std=std) for std in STDS))
    plan = dict(fanin.plan(net, x, "lecun_normal"))
    plan["packed.weight"] = dataclasses.replace(
        plan["packed.weight"], scheme=blocks, std=None, axes=Axes((0,), (1,), block_sizes=SIZES)
    )
    predicted = fanin.predict(net, x, plan).tensors
    squares = {}
    for seed in range(24):
        torch.manual_seed(seed)
        net = network()
        with torch.no_grad():
            for part, std in zip(net.packed.weight.split(SIZES), STDS, strict=True):
                part.normal_(std=std)
        for tensor, signal in fanin.measure(net, x).tensors.items():
            squares.setdefault(tensor, []).append((signal.rms, signal.gradient_rms))
    seen = 0
    for tensor, signal in predicted.items():
        if signal.operation not in ("mm", "silu", "tanh", "split", "split_with_sizes"):
            continue
        rms, gradient = (
            sum(v * v for v in column) / 24 for column in zip(*squares[tensor], strict=True)
        )
        seen += 1
        assert signal.rms == pytest.approx(rms**0.5, rel=0.04), signal
        assert signal.gradient_rms == pytest.approx(gradient**0.5, rel=0.06), signal
    assert seen >= 6


def test_powers_of_stretches_have_the_mean_one_and_meet_what_stands_on_them():
    pieces = Pieces(1, (3, 5), (2.0, 0.4))
    powers = pieces.powers(3)
    assert powers.shape == (1, 8, 1)
    assert powers.mean() == pytest.approx(1.0)
    first = torch.zeros(1, 8, 1).double().numpy()
    first[:, :3] = 1.0
    assert pieces.met(first) == pytest.approx(2.0)
    assert pieces.met(first[:, :1]) == 1.0
