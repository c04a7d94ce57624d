"""Deep plain stacks under auto: measured by running them, not by the formulas that chose."""

import pytest
import torch
from torch import nn

import fanin
from fanin.schemes import DeltaOrthogonal, Mirrored, Orthogonal


def stack(activation, depth, width=128):
    layers = [nn.Linear(64, width), activation()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def inputs():
    return torch.randn(128, 64, generator=torch.Generator().manual_seed(0))


def carried(model, activation, x):
    """RMS last over first, gradient RMS first over last, and mean cosine of samples at the end."""
    seen = []
    for module in model.modules():
        if isinstance(module, activation):
            module.register_forward_hook(lambda _m, _i, out: seen.append(out))
    first, last = torch.autograd.grad(model(x).square().sum(), (seen[0], seen[-1]))
    flat = nn.functional.normalize(seen[-1].flatten(1), dim=1)
    cosine = (flat @ flat.T).fill_diagonal_(0).sum() / (len(x) * (len(x) - 1))
    rms = [t.square().mean().sqrt().item() for t in (seen[0], seen[-1], first, last)]
    return rms[1] / rms[0], rms[2] / rms[3], cosine.item()


@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.Softplus, nn.Hardswish]
)
def test_a_hundred_layers_carry_signal_gradient_and_differences(activation):
    x, model = inputs(), stack(activation, 100)
    plan = fanin.plan(model, x)
    assert isinstance(plan["2.weight"].scheme, Mirrored)
    fanin.apply(plan, model)
    forward, backward, cosine = carried(model, activation, x)
    assert 0.8 < forward < 1.25
    assert 0.5 < backward < 2
    # Softplus has a large mean, which every sample shares; the others keep samples apart.
    assert cosine < (0.95 if activation is nn.Softplus else 0.6)


def test_the_usual_rule_loses_what_auto_keeps():
    x, model = inputs(), stack(nn.ReLU, 100)
    fanin.initialize(model, x, "kaiming_normal")
    assert carried(model, nn.ReLU, x)[2] > 0.95


def test_deep_tanh_is_orthogonal():
    x, model = inputs(), stack(nn.Tanh, 60)
    plan = fanin.plan(model, x)
    assert isinstance(plan["2.weight"].scheme, Orthogonal)
    fanin.apply(plan, model)
    forward, backward, _ = carried(model, nn.Tanh, x)
    assert forward > 0.1
    assert backward > 0.1


@pytest.mark.parametrize(
    ("activation", "scheme"), [(nn.ReLU, Mirrored), (nn.Tanh, DeltaOrthogonal)]
)
def test_deep_convolutions_use_the_middle_tap(activation, scheme):
    layers = [nn.Conv2d(3, 16, 3, padding=1), activation()]
    for _ in range(49):
        layers += [nn.Conv2d(16, 16, 3, padding=1), activation()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    x = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plan = fanin.plan(model, x)
    assert isinstance(plan["2.weight"].scheme, scheme)
    fanin.apply(plan, model)
    forward, backward, _ = carried(model, activation, x)
    assert 0.05 < forward < 1.25
    assert 0.05 < backward < 2


def test_shallow_stacks_and_odd_widths_keep_he():
    x = inputs()
    plan = fanin.plan(stack(nn.ReLU, 4), x)
    assert plan["2.weight"].reason == "meets relu: He"
    plan = fanin.plan(stack(nn.ReLU, 60, width=127), x)
    assert plan["2.weight"].reason == "meets relu: He"
    assert "even widths" in " ".join(plan.advice)


def test_norms_and_skips_are_no_plain_stacks():
    x = inputs()
    layers = []
    for _ in range(40):
        layers += [nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU()]
    plan = fanin.plan(nn.Sequential(*layers, nn.Linear(64, 10)), x)
    assert not isinstance(plan["3.weight"].scheme, Mirrored)


class SquaredReLU(nn.Module):
    def forward(self, x):
        return torch.relu(x).square()


def test_where_no_weights_help_the_plan_says_so():
    x, model = inputs(), stack(SquaredReLU, 50)
    plan = fanin.plan(model, x)
    assert "norm or a skip" in " ".join(plan.advice)


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.ELU, nn.SELU, nn.Mish, nn.Tanh, nn.Softsign])
def test_any_activation_with_its_greatest_slope_at_0_becomes_an_isometry(activation):
    x, model = inputs(), stack(activation, 60)
    plan = fanin.plan(model, x)
    fanin.apply(plan, model)
    odd = activation in (nn.Tanh, nn.Softsign)
    assert isinstance(plan["2.weight"].scheme, Orthogonal if odd else Mirrored)
    # Cosines of the inputs come out of the last hidden layer, as of a linear orthogonal map.
    hidden = model[:-1](x).detach()
    carried_on = hidden if odd else hidden[:, :64] - hidden[:, 64:]
    gap = nn.functional.normalize(carried_on) @ nn.functional.normalize(carried_on).T
    gap -= nn.functional.normalize(x) @ nn.functional.normalize(x).T
    assert gap.abs().max() < 0.2
    # The head takes the smallness back: 0.25 to 0.7, over 10 random directions (± 20 %).
    assert 0.25 * 0.8 < model(x).std().item() < 0.7 * 1.2


def test_the_gradient_of_a_deep_tanh_stack_is_as_large_as_that_of_relu():
    norms = {}
    for activation in (nn.ReLU, nn.Tanh):
        x, model = inputs(), stack(activation, 100)
        fanin.initialize(model, x)
        target = torch.arange(len(x)) % 10
        loss = nn.functional.cross_entropy(model(x), target)
        (gradient,) = torch.autograd.grad(loss, model[100].weight)
        norms[activation] = gradient.norm().item()
    # 0.7 and 0.33 are the logits' std of the two; times 3 either way for ReLU's mean.
    assert 0.15 < norms[nn.Tanh] / norms[nn.ReLU] < 1.5


def test_a_norm_behind_the_activation_ends_a_stack():
    layers = []
    for _ in range(30):
        layers += [nn.Linear(64, 64), nn.ReLU(), nn.LayerNorm(64)]
    plan = fanin.plan(nn.Sequential(*layers, nn.Linear(64, 10)), inputs())
    assert plan["3.weight"].reason == "meets relu: He"
    assert plan["90.weight"].reason.startswith("head: 0.25")


def test_first_and_strided_convolutions_use_all_taps():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(),
        *[m for _ in range(30) for m in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())],
        nn.Flatten(), nn.Linear(16 * 16, 5),
    )  # fmt: skip
    plan = fanin.plan(model, torch.randn(8, 1, 16, 16))
    assert [plan[f"{k}.weight"].scheme.taps for k in (0, 2, 4)] == ["all", "all", "middle"]
    fanin.apply(plan, model)
    x = torch.randn(64, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    first, last = model[:4](x).square().mean(), model[:-2](x).square().mean()
    # White noise passes every tap alike, borders aside: the first two layers keep its size, 1/2.
    assert 0.3 < first.item() < 0.6
    assert last.item() == pytest.approx(first.item(), rel=1e-4)


def test_the_rate_that_depth_allows():
    rates = {}
    for depth in (30, 300):
        (line,) = fanin.plan(stack(nn.ReLU, depth), inputs()).advice
        assert "SGD with momentum 0.9" in line
        rates[depth] = float(line.partition("about ")[2].split()[0])
    assert rates == {30: 0.01, 300: 0.001}
    (deep,) = fanin.plan(stack(nn.Tanh, 1000), inputs()).advice
    # Smaller than ReLU's 3e-4 by the share of the biases, which grows as L.
    assert 3e-5 < float(deep.partition("about ")[2].split()[0]) < 2e-4
    assert fanin.plan(stack(nn.ReLU, 4), inputs()).advice == ()
