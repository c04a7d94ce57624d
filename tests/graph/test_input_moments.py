"""Moments of a call's inputs on the graph."""

import pytest
import torch
from torch import nn

import fanin
from fanin.graph.input_moments import InputMoments, moments_of_input


def test_a_graph_knows_the_moments_of_its_floating_point_inputs():
    class Two(nn.Module):
        def forward(self, x, index):
            return x[index]

    x = torch.randn(100, 8)
    graph = fanin.record(Two(), (x, torch.arange(3)))
    assert list(graph.input_moments) == [graph.inputs[0]]
    found = graph.input_moments[graph.inputs[0]]
    assert found.second_moment == pytest.approx(x.square().mean().item())
    assert found.mean == pytest.approx(x.mean().item())


def test_inputs_that_the_model_overwrites_are_measured_before():
    class Overwrites(nn.Module):
        def forward(self, x):
            return x.mul_(10) + 1

    graph = fanin.record(Overwrites(), torch.full((4, 4), 2.0))
    assert graph.input_moments[graph.inputs[0]].second_moment == 4.0


def test_the_standard_error_is_that_of_samples():
    torch.manual_seed(0)
    # Samples that are constant images of random brightness: 4 numbers are known, not 400.
    many = [torch.randn(16, 1).expand(16, 100) for _ in range(400)]
    spread = torch.tensor([moments_of_input(x).second_moment for x in many]).std().item()
    told = torch.tensor([moments_of_input(x).standard_error for x in many]).mean().item()
    assert told == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(3),
        torch.empty(0, 4),
        torch.randn(3, device="meta"),
        torch.randn(3, dtype=torch.complex64),
        torch.eye(3).to_sparse(),
    ],
    ids=["integers", "empty", "meta", "complex", "sparse"],
)
def test_tensors_without_real_numbers_have_none(tensor):
    assert moments_of_input(tensor) is None


def test_constants_and_broken_numbers_are_known_for_what_they_are():
    assert InputMoments(3.0, 9.0, 0.0).constant
    assert not InputMoments(0.0, 1.0, 0.1).constant
    assert not moments_of_input(torch.tensor([1.0, float("nan")])).finite
    assert not moments_of_input(torch.tensor([1.0, float("inf")])).finite
    assert moments_of_input(torch.full((4,), 1e30)).finite
