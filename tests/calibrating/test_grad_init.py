"""GradInit: one step of training lowers the loss more, and the gradient keeps its bound."""

import re

import pytest
import torch
from observed_layers import chain, labels, numbers
from torch import nn

import fanin
from fanin.errors import DataError, PlanError
from fanin.recipes import GradInit
from fanin.schemes import Ones, Scaled


def one_step(model: nn.Module, x, y, optimizer: str, rate: float) -> tuple[float, float]:
    """Loss after one step of torch's own optimizer, and the gradient's norm before it."""
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    step = make(model.parameters(), lr=rate)
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    gradient = [p.grad for p in model.parameters()]
    order = {"sgd": 2, "adam": 1}[optimizer]
    norm = float(torch.cat([g.flatten() for g in gradient]).norm(order))
    step.step()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(x), y)), norm


def task(count: int = 96, width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    x = numbers(count, width)
    return x, (x[:, :4] * torch.tensor([3.0, 1.0, 1.0, 1.0])).argmax(dim=1)


@pytest.mark.parametrize(
    ("optimizer", "rate", "bound"), [("sgd", 0.1, 10.0), ("adam", 1e-3, 500.0)], ids=["sgd", "adam"]
)
def test_one_step_lowers_the_loss_more(optimizer, rate, bound):
    x, y = task()
    recipe = GradInit(target=y, optimizer=optimizer, gradient_bound=bound, steps=80)
    plain, learnt = chain(4, 16, nn.Tanh), chain(4, 16, nn.Tanh)
    fanin.initialize(plain, x, "kaiming_normal")
    plan = fanin.plan(learnt, x, recipe)
    fanin.apply(plan, learnt)
    before, norm_before = one_step(plain, x, y, optimizer, rate)
    after, norm = one_step(learnt, x, y, optimizer, rate)
    assert norm_before < bound  # the start is admissible, so that the comparison is fair
    assert after < before
    assert norm < 1.1 * bound
    # What the plan reports is what torch's optimizer does; Adam's ε is the difference.
    told = next(line for line in plan.advice if line.startswith("GradInit"))
    found = re.search(r"([\d.]+) at the start, ([\d.]+) with the scales", told)
    assert found is not None
    assert [float(n) for n in found.groups()] == pytest.approx([before, after], rel=2e-3)


def test_a_gradient_above_the_bound_is_brought_below_it():
    x, y = task()
    model = chain(6, 16)
    plan = fanin.plan(model, x, GradInit(target=y, steps=150, base="normal_0.6"))
    worse = chain(6, 16)
    fanin.initialize(worse, x, "normal_0.6")
    fanin.apply(plan, model)
    assert one_step(worse, x, y, "sgd", 0.1)[1] > 10
    assert one_step(model, x, y, "sgd", 0.1)[1] < 2


def test_norm_scales_are_scaled_and_zeros_are_not():
    model = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    x, y = task()
    plan = fanin.plan(model, x, GradInit(target=y, steps=5))
    assert plan["1.weight"].scheme.of == Ones()
    assert not isinstance(plan["0.bias"].scheme, Scaled)
    assert "learnt for one step of sgd at 0.1" in plan["0.weight"].reason


def test_no_scale_falls_below_the_least():
    x, y = task()
    recipe = GradInit(target=y, steps=30, scale_rate=0.5, least=0.2, gradient_bound=1e-3)
    plan = fanin.plan(chain(2, 16), x, recipe)
    factors = [a.scheme.factor for a in plan.values() if isinstance(a.scheme, Scaled)]
    assert min(factors) == pytest.approx(0.2)


def test_without_a_target_it_says_what_to_do():
    with pytest.raises(DataError, match=r"GradInit\(target=y\)"):
        fanin.plan(chain(2), numbers(8, 32), "gradinit")
    with pytest.raises(DataError, match="does not fit"):
        fanin.plan(chain(2), numbers(8, 32), GradInit(target=labels(7, 10)))


def test_a_model_with_a_loss_of_its_own():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(16, 4)

        def forward(self, x, labels):
            logits = self.lin(x)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    x, y = task()
    plan = fanin.plan(Own(), {"x": x, "labels": y}, GradInit(steps=5))
    assert "loss after one step" in plan.advice[0]


def test_graphs_are_not_taken_apart():
    """Edges are no samples: where first axes differ, the whole batch is used."""

    class Message(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(8, 3)

        def forward(self, x, edges):
            return self.lin(x.index_add(0, edges[1], x[edges[0]]))

    x, edges = numbers(20, 8), labels(60, 20).view(2, 30)
    plan = fanin.plan(Message(), (x, edges), GradInit(target=labels(20, 3), steps=3))
    assert plan.advice


def test_integer_outputs_have_no_gradient():
    class Integers(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(16, 4)

        def forward(self, x):
            return self.lin(x).argmax(dim=1)

    x, y = task()
    with pytest.raises(DataError):
        fanin.plan(Integers(), x, GradInit(target=y))


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": "lion"},
        {"learning_rate": 0},
        {"gradient_bound": -1},
        {"steps": 0},
        {"least": 0},
    ],
    ids=str,
)
def test_wrong_settings(wrong):
    with pytest.raises(PlanError, match="GradInit: "):
        GradInit(**wrong)
