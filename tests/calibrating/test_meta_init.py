"""MetaInit: the quotient is the paper's, and the norms found make it smaller."""

import pytest
import torch
from observed_layers import chain, labels, numbers
from torch import nn
from torch.func import functional_call, hessian

import fanin
from fanin.calibrating.meta_init import EPSILON, gradient_quotient
from fanin.calibrating.objective import Objective
from fanin.calibrating.scratch import Scratch
from fanin.errors import DataError, PlanError, RecordError
from fanin.recipes import MetaInit
from fanin.schemes import Scaled


def quotient_by_hand(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """|(g − Hg)/(g + ε) − 1| with the whole Hessian, in double precision."""
    names = [name for name, _ in model.named_parameters()]
    values = [p.detach().double() for p in model.parameters()]
    shapes = [v.shape for v in values]
    sizes = [v.numel() for v in values]
    flat = torch.cat([v.flatten() for v in values])

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parts = [v.view(s) for v, s in zip(vector.split(sizes), shapes, strict=True)]
        out = functional_call(model.double(), dict(zip(names, parts, strict=True)), (x.double(),))
        return nn.functional.cross_entropy(out, y)

    g = torch.autograd.functional.jacobian(loss, flat)
    h = hessian(loss)(flat)
    epsilon = torch.where(g >= 0, EPSILON, -EPSILON)
    return float((((g - h @ g) / (g + epsilon)) - 1).abs().mean())


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Softplus], ids=["tanh", "softplus"])
def test_the_quotient_is_that_of_the_whole_hessian(activation):
    model = nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 3)).double()
    x, y = numbers(8, 3).double(), labels(8, 3)
    plan = fanin.plan(model, x, "xavier_normal", overrides={"*.bias": "normal_0.1"})
    scratch = Scratch(plan, model, x, 0)
    objective = Objective(scratch, "metainit", nn.functional.cross_entropy)
    with scratch.running(), torch.enable_grad():
        found = float(gradient_quotient(objective, objective.scaled({}), x, y).detach())
    fanin.apply(plan, model)
    # ε is no limit here: the same double precision, and other orders of summation only.
    assert found == pytest.approx(quotient_by_hand(model, x, y), rel=1e-8)


def test_the_slope_of_the_quotient_is_that_of_finite_differences():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x, y = numbers(8, 3).double(), labels(8, 3)
    scratch = Scratch(fanin.plan(model, x, "xavier_normal"), model, x, 0)
    objective = Objective(scratch, "metainit", nn.functional.cross_entropy)

    def quotient(scale: torch.Tensor) -> torch.Tensor:
        return gradient_quotient(objective, objective.scaled({"0.weight": scale}), x, y)

    with scratch.running(), torch.enable_grad():
        scale = torch.ones((), dtype=torch.float64, requires_grad=True)
        (slope,) = objective.plain_gradients(quotient(scale), [scale])
        step = 1e-6
        ends = [
            float(quotient(torch.tensor(1 + s, dtype=torch.float64)).detach())
            for s in (step, -step)
        ]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("given", [True, False], ids=["target", "random"])
def test_the_quotient_falls(given):
    model, x, y = chain(6, 16, nn.Tanh), numbers(32, 16), labels(32, 10)
    start = "normal_0.5"  # a bad start: gain 2 at width 16
    recipe = MetaInit(target=y if given else None, steps=60, base=start)
    plan = fanin.plan(model, x, recipe)

    def quotient(made: fanin.Plan) -> float:
        scratch = Scratch(made, model, x, 0)
        objective = Objective(scratch, "metainit", None)
        with scratch.running(), torch.enable_grad():
            found = gradient_quotient(objective, objective.scaled({}), x, y)
        return float(found.detach())

    before, after = quotient(fanin.plan(model, x, start)), quotient(plan)
    assert after < before / 2
    if given:  # the very number that the plan reports
        told = next(line for line in plan.advice if "gradient quotient" in line)
        assert f"{before:.4g} at the start, {after:.4g} after" in told
    assert isinstance(plan["0.weight"].scheme, Scaled)
    assert not isinstance(plan["0.bias"].scheme, Scaled)
    assert plan["0.weight"].reason.startswith("MetaInit: norm ")


def test_a_small_step_goes_down():
    # The quotient has poles wherever a gradient is near 0: small is small, and in double precision.
    model, x, y = chain(3, 16, nn.Tanh).double(), numbers(32, 16).double(), labels(32, 10)
    loss = nn.functional.cross_entropy
    for base in ("normal_0.1", "normal_0.3", "normal_0.5"):
        recipe = MetaInit(target=y, loss=loss, steps=1, learning_rate=1e-6, base=base)
        assert "after 1 of 1 steps" in fanin.plan(model, x, recipe).advice[0]


def test_regression_and_pixels_have_random_targets():
    one = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    assert "quotient" in fanin.plan(one, numbers(16, 6), MetaInit(steps=2)).advice[0]
    assert "quotient" in fanin.plan(one, numbers(16, 6), MetaInit(steps=2, loss="mse")).advice[0]
    pixels = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Softplus(), nn.Conv2d(4, 5, 3))
    assert fanin.plan(pixels, numbers(4, 2, 8, 8), MetaInit(steps=2)).advice


def test_attention_and_recurrence_have_second_derivatives():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    assert fanin.plan(layer, numbers(4, 5, 8), MetaInit(steps=2)).advice

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    model, before = Last(), torch._C._get_mkldnn_enabled()
    assert fanin.plan(model, numbers(4, 5, 4), MetaInit(steps=2)).advice
    assert torch._C._get_mkldnn_enabled() == before


class NoSecond(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * gradient


class OnceOnly(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 3)

    def forward(self, x):
        return NoSecond.apply(self.lin(x))


class Integers(OnceOnly):
    def forward(self, x):
        return self.lin(x).argmax(dim=1)


def test_models_that_cannot_be_differentiated_twice():
    with pytest.raises(RecordError, match="Use 'lsuv'"):
        fanin.plan(OnceOnly(), numbers(8, 4), MetaInit(steps=2))
    with pytest.raises(DataError, match="no floating tensor"):
        fanin.plan(Integers(), numbers(8, 4), MetaInit(steps=2))


def test_wrong_settings():
    for wrong in ({"steps": 0}, {"learning_rate": -1.0}, {"momentum": -2}):
        with pytest.raises(PlanError, match="MetaInit: "):
            MetaInit(**wrong)
    with pytest.raises(DataError, match="Pass the target too"):
        fanin.plan(chain(2), numbers(4, 32), MetaInit(loss=lambda output, target: output.sum()))
