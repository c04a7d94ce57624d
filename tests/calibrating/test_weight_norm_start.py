"""The start of weight normalisation: every unit has mean 0 and std 1 on the batch."""

import pytest
import torch
from observed_layers import Residual, block, chain, convolutions, numbers, outputs
from torch import nn

import fanin
from fanin.errors import DataError
from fanin.planning import compare_with_tensors
from fanin.recipes import WeightNorm
from fanin.schemes import Normal, Scaled


def units(out: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and std of every unit."""
    rows = out.movedim(axis, -1).reshape(-1, out.shape[axis]).double()
    return rows.mean(dim=0), rows.std(dim=0, correction=0)


@pytest.mark.parametrize(
    ("build", "x"),
    [(chain, numbers(64, 32)), (Residual, 3 * numbers(64, 32) + 1)],
    ids=["chain", "residual"],
)
def test_every_unit_is_normal(build, x):
    model = build()
    fanin.initialize(model, x, "weight_norm")
    for name, out in outputs(model, x).items():
        mean, std = units(out, -1)
        assert mean.abs().max() < 1e-4, name
        assert (std - 1).abs().max() < 1e-4, name


def test_channels_of_convolutions():
    model, x = convolutions(), numbers(8, 3, 12, 12)
    plan = fanin.plan(model, x, "weight_norm")
    fanin.apply(plan, model)
    for name, out in outputs(model, x).items():
        mean, std = units(out, 1 if out.dim() == 4 else -1)
        grouped = name == "8"  # a grouped transposed convolution shares one factor
        assert (std - 1).abs().max() < (1 if grouped else 1e-4), name
        assert grouped or mean.abs().max() < 1e-4, name
    assert isinstance(plan["8.weight"].scheme.factor, float)
    assert len(plan["3.weight"].scheme.factor) == 32


def test_the_formula_of_the_paper():
    """g = 1/σ and b = −μ/σ for t = v·x, computed here by hand for one layer."""
    layer, x = nn.Linear(5, 7), 2 * numbers(50, 5) + 3
    plain = nn.Linear(5, 7)
    fanin.initialize(plain, x, "normal_0.05", seed=4)
    plan = fanin.plan(layer, x, "weight_norm", seed=4)
    fanin.apply(plan, layer, seed=4)
    t = (x @ plain.weight.detach().T).double()
    mean, std = t.mean(dim=0), t.std(dim=0, correction=0)
    assert torch.allclose(layer.weight.double(), plain.weight.double() / std[:, None], rtol=1e-5)
    assert torch.allclose(layer.bias.double(), -mean / std, rtol=1e-5, atol=1e-6)
    assert plan["weight"].scheme.of == Normal(std=0.05)
    assert plan["bias"].reason.startswith("weight_norm: −μ/σ of every unit")


def test_a_layer_that_has_weight_norm():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(8, 6))
    x = 2 * numbers(64, 8) - 1
    fanin.initialize(layer, x, "weight_norm")
    mean, std = units(layer(x).detach(), -1)
    assert mean.abs().max() < 1e-4
    assert (std - 1).abs().max() < 1e-4
    magnitude = layer.parametrizations.weight.original0.detach().flatten()
    assert torch.allclose(magnitude, layer.weight.detach().norm(dim=1))


def test_biases_that_are_added_on_their_own():
    """In attention, and behind inputs that are not contiguous, torch adds the bias separately."""
    model, x = block().eval(), 2 * numbers(6, 5, 16) + 0.5
    fanin.initialize(model, x, "weight_norm")
    attend = model.self_attn
    packed = model.norm1(x) @ attend.in_proj_weight.T + attend.in_proj_bias
    mean, std = units(packed.detach(), -1)
    assert mean.abs().max() < 1e-4
    assert (std - 1).abs().max() < 1e-4
    for out in outputs(model, x).values():
        assert units(out, -1)[0].abs().max() < 1e-4


def test_without_a_bias_the_mean_stays():
    layer, x = nn.Linear(8, 6, bias=False), numbers(64, 8) + 2
    plan = fanin.plan(layer, x, "weight_norm")
    fanin.apply(plan, layer)
    mean, std = units(layer(x).detach(), -1)
    assert (std - 1).abs().max() < 1e-4
    assert mean.abs().max() > 0.1
    assert "no bias takes it off" in plan["weight"].evidence[-1]


def test_a_kept_bias_stays_and_is_not_counted():
    layer, x = nn.Linear(8, 6), numbers(64, 8)
    with torch.no_grad():
        layer.bias.copy_(numbers(6, seed=3))
    bias = layer.bias.detach().clone()
    fanin.initialize(layer, x, "weight_norm", keep=["bias"])
    assert torch.equal(layer.bias, bias)
    _, std = units(layer(x).detach(), -1)
    assert (std - 1).abs().max() < 1e-4


def test_units_that_do_not_vary_keep_their_scale():
    layer, x = nn.Linear(4, 3), torch.ones(16, 4)
    x[:, 0] = numbers(16)
    plan = fanin.plan(
        nn.Sequential(layer, nn.ReLU()), x, WeightNorm(base="zeros"), overrides={"0.bias": "ones"}
    )
    assert "no unit varies" in plan["0.weight"].reason
    assert not isinstance(plan["0.weight"].scheme, Scaled)


def test_a_shared_weight_is_normalised_over_all_uses():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x):
            return self.again(torch.tanh(self.again(torch.tanh(self.first(x)))))

    model, x = Twice(), numbers(128, 16)
    seen: list[torch.Tensor] = []
    plan = fanin.plan(model, x, "weight_norm")
    fanin.apply(plan, model)
    model.again.register_forward_hook(lambda m, i, o: seen.append(o.detach()))
    model(x)
    _, std = units(torch.cat(seen), -1)
    assert (std - 1).abs().max() < 0.1
    assert "measured over 2 uses" in plan["again.weight"].evidence


def test_very_different_units_are_what_their_plan_says():
    """A few large units make up the whole std: chance must not pass for a fault, nor hide one."""
    model = nn.Sequential(nn.Conv2d(64, 64, 3, groups=64))
    x = numbers(4, 64, 8, 8) * torch.logspace(-2, 2, 64)[None, :, None, None]
    for seed in range(20):
        plan = fanin.plan(model, x, "weight_norm", seed=seed)
        fanin.apply(plan, model, seed=seed)
        assert compare_with_tensors(plan, model) == []
    with torch.no_grad():
        model[0].weight[:40] *= 1.5
    assert [d.quantity for d in compare_with_tensors(plan, model)] == ["std"]


def test_one_observation_of_a_unit_is_no_std():
    with pytest.raises(DataError, match="Give 2 samples or more"):
        fanin.plan(nn.Linear(4, 3), numbers(1, 4), "weight_norm")
    fanin.plan(nn.Conv2d(3, 4, 3), numbers(1, 3, 8, 8), "weight_norm")  # positions count
