"""Gradients of memory that is written part by part, against automatic differentiation."""

import pytest
import torch
from building_blocks import Module, N, batch, dense
from checks import predicted_and_measured


def rows(build, inputs, *names):
    return [
        (signal.operation, gradient, truth)
        for signal, _, _, gradient, truth in predicted_and_measured(build, inputs)
        if signal.operation in names and truth
    ]


def test_steps_written_into_one_buffer_receive_the_gradient_of_their_place():
    # h_t = (h_(t−1) + x_t)/√2: the first steps hear of all later ones too.
    def run(m, x):
        x, h = m.a(x), torch.zeros(len(x), N)
        steps = torch.zeros(len(x), 4, N)
        for t in range(4):
            h = (h + x[:, t]) / 2**0.5
            steps[:, t] = h
        return m.b(steps)

    found = rows(
        lambda: Module(run, a=dense(), b=dense()), batch(16, 4, N), "add", "div", "updated"
    )
    assert len(found) >= 8
    for name, gradient, truth in found:
        assert gradient == pytest.approx(truth, rel=0.08), name


def test_a_slice_that_is_written_over_receives_nothing():
    def run(m, x):
        y = m.a(x) * 1.0
        y[:, :3] = m.c(x)[:, :3]
        return m.b(y)

    def build():
        return Module(run, a=dense(), b=dense(), c=dense())

    found = rows(build, batch(16, 4, N), "mul", "mm")
    # The gradient reaches a quarter of a(x) and three quarters of c(x).
    assert len(found) == 4
    for name, gradient, truth in found:
        assert gradient == pytest.approx(truth, rel=0.08), name


def test_copies_of_sampled_numbers_pass_their_gradient():
    def run(m, x):
        windows = m.a(x).as_strided((len(x), 3, 2, N), (4 * N, N, N, 1))
        memory = torch.zeros(len(x), 3, 2, N)
        memory[:, :2] = windows[:, :2]
        return m.b(memory)

    found = rows(lambda: Module(run, a=dense(), b=dense()), batch(8, 4, N), "mm")
    for name, gradient, truth in found:
        assert gradient == pytest.approx(truth, rel=0.12), name
