"""Fans against brute force: the products that run in real layers, counted by autograd.

With every weight and every input 1, an output is the number of inputs that it sums, and the
gradient of the sum of all outputs at an input is the number of outputs that it reaches.
"""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.axes import Axes, Fans, dense_axes
from fanin.errors import SchemeError


def counted(function, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs summed by every output, and outputs reached by every input."""
    x = torch.ones_like(x, requires_grad=True)
    y = function(x)
    y.sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


def inner_mean(tensor: torch.Tensor, margins: list[int], periods: list[int]) -> float:
    """Mean over whole periods of the positions that no border reaches."""
    for axis, (margin, period) in enumerate(zip(margins, periods, strict=True), start=2):
        length = (tensor.shape[axis] - 2 * margin) // period * period
        assert length >= period, "the layer of the test is too small"
        tensor = tensor.narrow(axis, margin, length)
    return tensor.double().mean().item()


convolutions = st.integers(1, 2).flatmap(
    lambda dims: st.fixed_dictionaries(
        {
            "kernel": st.lists(st.integers(1, 4), min_size=dims, max_size=dims),
            "stride": st.lists(st.integers(1, 3), min_size=dims, max_size=dims),
            "dilation": st.lists(st.integers(1, 2), min_size=dims, max_size=dims),
            "padding": st.integers(0, 2),
            "groups": st.integers(1, 3),
            "inputs": st.integers(1, 3),
            "outputs": st.integers(1, 3),
        }
    )
)


def margins_of(c: dict) -> list[int]:
    """How far a border may reach: the kernel's span, the padding, and an incomplete stride."""
    spans = [d * (k - 1) for k, d in zip(c["kernel"], c["dilation"], strict=True)]
    return [n + c["padding"] + 2 * s for n, s in zip(spans, c["stride"], strict=True)]


@settings(max_examples=60, deadline=None)
@given(convolutions)
def test_convolutions(c):
    margins = margins_of(c)
    size = [2 * margin + 7 for margin in margins]
    dims, groups = len(size), c["groups"]
    weight = torch.ones(groups * c["outputs"], c["inputs"], *c["kernel"])
    run = F.conv1d if dims == 1 else F.conv2d
    y, gradient = counted(
        lambda x: run(
            x, weight, None, tuple(c["stride"]), c["padding"], tuple(c["dilation"]), groups
        ),
        torch.empty(1, groups * c["inputs"], *size),
    )
    axes = Axes(0, 1, range(2, 2 + dims), groups=groups, stride=c["stride"])
    fans = axes.fans(weight.shape)
    assert y.max() == fans.fan_in
    assert inner_mean(gradient, margins, c["stride"]) == pytest.approx(fans.fan_out)


@settings(max_examples=60, deadline=None)
@given(convolutions)
def test_transposed_convolutions(c):
    margins = margins_of(c)
    size = [2 * margin + 7 for margin in margins]
    dims, groups = len(size), c["groups"]
    weight = torch.ones(groups * c["inputs"], c["outputs"], *c["kernel"])
    run = F.conv_transpose1d if dims == 1 else F.conv_transpose2d
    y, gradient = counted(
        lambda x: run(
            x, weight, None, tuple(c["stride"]), c["padding"], 0, groups, tuple(c["dilation"])
        ),
        torch.empty(1, groups * c["inputs"], *size),
    )
    axes = Axes(1, 0, range(2, 2 + dims), groups=groups, stride=c["stride"], transposed=True)
    fans = axes.fans(weight.shape)
    assert inner_mean(y, margins, c["stride"]) == pytest.approx(fans.fan_in)
    assert gradient.max() == fans.fan_out


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_matrices_of_every_order(inputs, outputs, heads, experts):
    def check(function, x, weight_shape, axes):
        y, gradient = counted(function, x)
        assert axes.fans(weight_shape) == Fans(y.max().item(), gradient.max().item())

    ones = torch.ones
    x = torch.empty(2, inputs)
    check(lambda x: F.linear(x, ones(outputs, inputs)), x, (outputs, inputs), Axes(0, 1))
    check(lambda x: x @ ones(inputs, outputs), x, (inputs, outputs), Axes(1, 0))
    w = ones(heads, outputs, inputs)
    check(lambda x: torch.einsum("hoi,bi->bho", w, x), x, w.shape, Axes((0, 1), 2))
    many = torch.empty(2, heads, inputs)
    back = ones(outputs, heads, inputs)
    check(lambda x: torch.einsum("ohi,bhi->bo", back, x), many, back.shape, Axes(0, (1, 2)))
    stacked = ones(experts, inputs, outputs)
    tokens = torch.empty(experts, 2, inputs)
    check(lambda x: torch.bmm(x, stacked), tokens, stacked.shape, Axes(2, 1, batch=0))


def test_packed_pieces_have_their_own_fan_out():
    axes = Axes(0, 1, block_sizes=(8, 4, 4))
    weight = torch.ones(16, 6)
    for block, (start, size) in zip(axes.blocks((16, 6)), ((0, 8), (8, 4), (12, 4)), strict=True):
        piece = weight[start : start + size]
        y, gradient = counted(lambda x, piece=piece: F.linear(x, piece), torch.empty(1, 6))
        assert (block.start, block.shape) == (start, (size, 6))
        assert block.axes.fans(block.shape) == Fans(y.max().item(), gradient.max().item())


def test_a_layer_with_the_true_fan_keeps_the_variance():
    """The transposed layer that torch's fan_in brings to 0.47 instead of 1."""
    torch.manual_seed(0)
    axes = Axes(1, 0, (2, 3), stride=(2, 2), transposed=True)
    fan_in = axes.fans((64, 32, 4, 4)).fan_in
    weight = torch.randn(64, 32, 4, 4) / math.sqrt(fan_in)
    y = F.conv_transpose2d(torch.randn(8, 64, 16, 16), weight, stride=2, padding=1)
    assert y[:, :, 2:-2, 2:-2].var().item() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((), Axes(())), ((4,), Axes(0)), ((4, 3), Axes(0, 1)), ((4, 3, 2, 2), Axes(0, 1, (2, 3)))],
)
def test_axes_of_a_plain_shape(shape, axes):
    assert dense_axes(shape) == axes
    axes.validate(shape)


roles = st.builds(
    Axes,
    outputs=st.sampled_from([0, (0,), (0, 4)]),
    inputs=st.sampled_from([(), 1]),
    receptive=st.sampled_from([(2, 3)]),
    batch=st.sampled_from([(), 5]),
    block_sizes=st.sampled_from([(), (3, 4)]),
    groups=st.integers(1, 8),
    stride=st.sampled_from([(), (1, 2)]),
    transposed=st.booleans(),
)


@given(roles)
def test_json_round_trip_and_repr(axes):
    import json

    assert Axes.from_json(json.loads(json.dumps(axes.to_json()))) == axes
    assert eval(repr(axes), {"Axes": Axes}) == axes


@pytest.mark.parametrize(
    "arguments",
    [
        {"outputs": 0, "inputs": 0},
        {"outputs": -1},
        {"outputs": (0, 0)},
        {"outputs": "first"},
        {"outputs": 1.5},
        {"outputs": None},
        {"groups": 0},
        {"receptive": 2, "stride": 0},
        {"receptive": (2, 3), "stride": 2},
        {"block_sizes": (3, 0)},
        {"outputs": (), "block_sizes": (3,)},
    ],
)
def test_impossible_axes_are_refused(arguments):
    with pytest.raises(SchemeError):
        Axes(**arguments)
    with pytest.raises(SchemeError):
        Axes.from_json(arguments)


def test_unknown_keys_in_json_are_refused():
    with pytest.raises(SchemeError, match="fan"):
        Axes.from_json({"outputs": 0, "fan": 3})


@pytest.mark.parametrize(
    ("shape", "axes", "word"),
    [
        ((4, 3), Axes(0), "does not name each"),
        ((4,), Axes(0, 1), "does not name each"),
        ((4, 3), Axes(0, 1, block_sizes=(2, 1)), "add up to 3"),
        ((4, 3, 3), Axes(0, 1, 2, groups=3), "do not divide 4"),
        ((4, 3, 3), Axes(1, 0, 2, groups=3, transposed=True), "do not divide 4"),
    ],
)
def test_axes_that_do_not_fit_the_shape(shape, axes, word):
    with pytest.raises(SchemeError, match=word):
        axes.fans(shape)
