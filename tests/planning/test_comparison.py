"""Whether a model's tensors are what a plan says."""

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import PlanError
from fanin.planning import compare_with_tensors


def net():
    return nn.Sequential(
        nn.Embedding(40, 16, padding_idx=0),
        nn.LSTM(16, 24),
        nn.utils.parametrizations.weight_norm(nn.Linear(24, 30)),
        nn.utils.parametrizations.spectral_norm(nn.Linear(30, 20)),
    )


@pytest.mark.parametrize("recipe", ["kaiming_uniform", "orthogonal", "sparse", "torch", "lstm"])
def test_a_model_drawn_as_planned_is_never_reported(recipe):
    for seed in range(20):
        model = net()
        plan = fanin.plan(model, recipe=recipe)
        fanin.apply(plan, model, seed=seed)
        assert compare_with_tensors(plan, model) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_rounding_is_no_deviation(dtype):
    model = nn.Linear(300, 200).to(dtype)
    plan = fanin.plan(model, recipe="xavier_uniform")
    fanin.apply(plan, model)
    assert compare_with_tensors(plan, model) == []


def test_a_wrong_std_mean_or_bound_is_reported():
    model = nn.Linear(200, 100)
    plan = fanin.plan(model, recipe="xavier_uniform")
    fanin.apply(plan, model)
    with torch.no_grad():
        model.weight *= 1.1
    assert {d.quantity for d in compare_with_tensors(plan, model)} == {"std", "bounds"}
    fanin.apply(plan, model)
    with torch.no_grad():
        model.weight += 0.01
    assert "mean" in {d.quantity for d in compare_with_tensors(plan, model)}
    with torch.no_grad():
        model.bias[3] = 1e-3
    assert "bias" in {d.parameter for d in compare_with_tensors(plan, model)}
    with torch.no_grad():
        model.weight[0, 0] = float("nan")
    assert {d.parameter for d in compare_with_tensors(plan, model)} >= {"weight"}


def test_the_smallest_difference_that_is_seen_shrinks_with_the_size():
    seen = []
    for width in (30, 300):
        model = nn.Linear(width, width)
        plan = fanin.plan(model, recipe="normal_0.02")
        fanin.apply(plan, model)
        with torch.no_grad():
            model.weight *= 1.04
        seen.append(bool(compare_with_tensors(plan, model)))
    assert seen == [False, True]


def test_only_what_the_plan_initialises_is_compared():
    model = nn.Linear(50, 50)
    plan = fanin.plan(model, recipe="ones", keep=["weight"])
    fanin.apply(plan, model)
    assert compare_with_tensors(plan, model) == []


def test_another_model_is_refused():
    plan = fanin.plan(nn.Linear(3, 3), recipe="ones")
    with pytest.raises(PlanError, match="does not have"):
        compare_with_tensors(plan, nn.Sequential(nn.Linear(3, 3)))
    with pytest.raises(PlanError, match="shape"):
        compare_with_tensors(plan, nn.Linear(4, 3))
