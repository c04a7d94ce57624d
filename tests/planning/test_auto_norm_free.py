"""auto on residual networks without normalisation, held against what one training step does."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.planning import Action
from fanin.schemes import Zeros

WIDTH = 32


class Block(nn.Module):
    def __init__(self, make, layers=2, *, norm=None, factor=None, constant=1.0, bent=False):
        super().__init__()
        self.layers = nn.ModuleList(make() for _ in range(layers))
        self.norm = nn.Identity() if norm is None else norm()
        self.factor = None if factor is None else nn.Parameter(torch.full((1,), factor))
        self.constant, self.bent = constant, bent

    def branch(self, x):
        h = F.relu(self.norm(x))
        for layer in self.layers[:-1]:
            h = F.relu(layer(h))
        h = self.layers[-1](h)
        h = h if self.factor is None else self.factor * h
        h = h if self.constant == 1 else self.constant * h
        return F.relu(h) if self.bent else h

    def forward(self, x):
        return x + self.branch(x)


def linear():
    return nn.Linear(WIDTH, WIDTH)


def net(blocks, make=linear, **settings):
    many = [Block(make, **settings) for _ in range(blocks)]
    return nn.Sequential(nn.Linear(8, WIDTH), *many, nn.ReLU(), nn.Linear(WIDTH, 5))


X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))


def scale(plan, name):
    """The variance of a weight that reads relu, over He's 2/fan_in."""
    return plan[name].std ** 2 * WIDTH / 2


@pytest.mark.parametrize("layers", [2, 3, 4])
@pytest.mark.parametrize("blocks", [2, 10, 50])
def test_layers_of_a_branch_start_as_fixup(blocks, layers):
    plan = fanin.plan(net(blocks, layers=layers), X)
    for k in range(layers - 1):
        # Fixup: std · L^(−1/(2m−2))
        assert scale(plan, f"1.layers.{k}.weight") == pytest.approx(blocks ** (-1 / (layers - 1)))
    assert plan[f"1.layers.{layers - 1}.weight"].scheme == Zeros()
    assert plan[f"{blocks + 2}.weight"].std > 0


def moved(blocks, recipe):
    """How far one step of gradient descent moves the stream, by the rate, from any L."""
    torch.manual_seed(0)
    # Without biases: those of L last layers move the stream L times as far, whatever the weights.
    model = net(blocks, make=lambda: nn.Linear(WIDTH, WIDTH, bias=False))
    fanin.initialize(model, X, recipe)
    for block in list(model)[1:-2]:  # past the first step, which moves the zeros alone
        with torch.no_grad():
            block.layers[-1].weight.add_(torch.randn(WIDTH, WIDTH) * (2 / WIDTH / blocks) ** 0.5)
    end = nn.Sequential(*list(model)[:-2])
    before = end(X)
    target = torch.randn(before.shape, generator=torch.Generator().manual_seed(1))
    parameters = [p for block in list(model)[1:-2] for p in block.layers.parameters()]
    gradients = torch.autograd.grad((before * target).mean(0).sum(), parameters)
    with torch.no_grad():
        for p, g in zip(parameters, gradients, strict=True):
            p.sub_(1e-4 * g)
        return float((end(X) - before).square().mean().sqrt() / 1e-4)


def test_a_step_moves_the_stream_as_far_at_any_depth():
    few, many = moved(5, "auto"), moved(80, "auto")
    assert 0.5 < many / few < 2
    few, more = moved(5, "kaiming_normal"), moved(20, "kaiming_normal")
    assert more / few > 100


@pytest.mark.parametrize("factor", [0.0, 0.2])
def test_a_branch_that_its_author_scales_is_never_shut(factor):
    plan = fanin.plan(net(16, factor=factor), X)
    assert plan["1.factor"].action is Action.LEAVE
    assert scale(plan, "1.layers.0.weight") == pytest.approx(1 / 16)
    assert scale(plan, "1.layers.1.weight") == pytest.approx(1 / 16)


def test_fixups_own_multiplier_of_one_does_not_scale():
    plan = fanin.plan(net(16, factor=1.0), X)
    assert plan["1.layers.1.weight"].scheme == Zeros()


@pytest.mark.parametrize(("constant", "left"), [(0.5, 0.25 / 0.25), (0.1, 1.0)])
def test_a_constant_does_a_part_of_the_work(constant, left):
    # 16 blocks of 3 layers: c · s² = 16^(−½), so that s² = 1/(4 c), 1 at most
    plan = fanin.plan(net(16, layers=3, constant=constant), X)
    expected = min(1 / (4 * constant), 1)
    assert expected == pytest.approx(left / 2 if constant == 0.5 else left)
    for k in range(3):
        assert scale(plan, f"1.layers.{k}.weight") == pytest.approx(expected)


def test_zeros_never_stand_behind_an_activation_without_a_slope():
    plan = fanin.plan(net(16, bent=True), X)
    assert scale(plan, "1.layers.1.weight") == pytest.approx(1 / 16)


def test_a_layer_used_twice_is_not_zero():
    shared = Block(linear)
    shared.layers[1] = shared.layers[0]
    chain = [nn.Linear(8, WIDTH), shared, Block(linear), Block(linear), nn.Linear(WIDTH, 5)]
    plan = fanin.plan(nn.Sequential(*chain), X)
    assert plan["1.layers.0.weight"].std > 0
    assert plan["2.layers.1.weight"].scheme == Zeros()


@pytest.mark.parametrize("norm", [lambda: nn.LayerNorm(WIDTH), lambda: nn.BatchNorm1d(WIDTH)])
def test_branches_with_a_norm_are_left_to_the_usual_rule(norm):
    plan = fanin.plan(net(16, norm=norm), X)
    assert scale(plan, "1.layers.0.weight") == pytest.approx(1)
    assert scale(plan, "1.layers.1.weight") == pytest.approx(1 / 16)


class Standardised(nn.Linear):
    def forward(self, x):
        variance, mean = torch.var_mean(self.weight, 1, keepdim=True)
        return F.linear(x, (self.weight - mean) * torch.rsqrt(variance * WIDTH), self.bias)


def test_standardised_weights_are_never_zero():
    plan = fanin.plan(net(16, make=lambda: Standardised(WIDTH, WIDTH)), X)
    assert all(plan[f"{k}.layers.1.weight"].std > 0 for k in range(1, 17))


def test_weight_norm_is_never_given_zeros():
    make = lambda: nn.utils.parametrizations.weight_norm(linear())  # noqa: E731
    model = net(16, make=make)
    plan = fanin.plan(model, X)
    ends = [a for n, a in plan.items() if ".layers.1." in n and a.scheme is not None]
    assert all(a.scheme != Zeros() for n, a in plan.items() if "weight" in n and a.scheme)
    assert ends
    fanin.apply(plan, model)
    assert model(X).isfinite().all()


def test_one_layer_branches_keep_the_root_of_their_number():
    plan = fanin.plan(net(16, layers=1), X)
    assert scale(plan, "1.layers.0.weight") == pytest.approx(1 / 16)


def test_a_lone_skip_is_left_alone():
    plan = fanin.plan(net(1), X)
    assert scale(plan, "1.layers.1.weight") == pytest.approx(1)


class Staged(nn.Module):
    """Two stages with a projected shortcut: one stream of four blocks."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv2d(a, b, 3, s, 1) for a, b, s in self.sizes())
        self.last = nn.ModuleList(nn.Conv2d(b, b, 3, 1, 1) for _, b, _ in self.sizes())
        self.shortcut = nn.Conv2d(8, 16, 1, 2)
        self.head = nn.Linear(16, 5)

    @staticmethod
    def sizes():
        return [(8, 8, 1), (8, 8, 1), (8, 16, 2), (16, 16, 1)]

    def forward(self, x):
        x = F.relu(self.stem(x))
        for first, last in zip(self.first, self.last, strict=True):
            skip = x if first.stride == (1, 1) else self.shortcut(x)
            x = F.relu(skip + last(F.relu(first(x))))
        return self.head(x.mean((2, 3)))


def test_stages_are_one_stream_and_shortcuts_stay_open():
    model, x = Staged(), torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    plan = fanin.plan(model, x)
    for k, (inputs, _, _) in enumerate(Staged.sizes()):
        assert plan[f"first.{k}.weight"].std == pytest.approx(math.sqrt(2 / (9 * inputs) / 4))
        assert plan[f"last.{k}.weight"].scheme == Zeros()
    assert plan["shortcut.weight"].std == pytest.approx(math.sqrt(2 / 8))
    fanin.apply(plan, model)
    features = []
    model.head.register_forward_pre_hook(lambda _, args: features.append(args[0]))
    model(x).square().sum().backward()
    assert features[0].std() > 0.1
    # The zeros wake at the first step, what stands before them at the second.
    assert all(layer.weight.grad.abs().sum() > 0 for layer in model.last)


class LongSkips(nn.Module):
    """A U-Net that adds its skips: no chain of blocks."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(8, 8, 3, 2, 1) for _ in range(2))
        self.up = nn.ModuleList(nn.ConvTranspose2d(8, 8, 4, 2, 1) for _ in range(2))
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        x, skips = F.relu(self.stem(x)), []
        for down in self.down:
            skips.append(x)
            x = F.relu(down(x))
        for up in self.up:
            x = F.relu(up(x) + skips.pop())
        return self.head(x)


def test_long_skips_are_no_branches_to_shut():
    plan = fanin.plan(LongSkips(), torch.randn(2, 1, 8, 8))
    assert all(a.std > 0 for n, a in plan.items() if n.endswith("weight"))


def test_constructor_zeros_stay():
    model = net(16)
    for block in list(model)[1:-2]:
        nn.init.zeros_(block.layers[-1].weight)
    plan = fanin.plan(model, X)
    assert plan["1.layers.1.weight"].action is Action.LEAVE
    assert scale(plan, "1.layers.0.weight") == pytest.approx(1 / 16)


class Attending(nn.Module):
    """Attention and an MLP on one stream, a norm nowhere."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = Block(linear)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.mlp(x + self.out(F.scaled_dot_product_attention(q, k, v)))


def test_branches_beside_attention_end_in_zeros():
    model = nn.Sequential(*(Attending() for _ in range(4)), nn.Linear(WIDTH, 5))
    x = torch.randn(2, 7, WIDTH)
    plan = fanin.plan(model, x)
    for block in range(4):
        assert plan[f"{block}.out.weight"].scheme == Zeros()
        assert plan[f"{block}.mlp.layers.1.weight"].scheme == Zeros()
        assert scale(plan, f"{block}.mlp.layers.0.weight") == pytest.approx(1)
    fanin.apply(plan, model, seed=0)
    before = model[-1](x)
    # Every block is the identity.
    assert torch.equal(model(x), before)
    start = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    target = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(model(x), target).backward()
        optimizer.step()
    # It learns: the ends at the first step, what stands before them at the second.
    assert not [n for n, p in model.named_parameters() if torch.equal(p, start[n])]


def test_a_value_that_is_added_to_its_attention_is_no_end():
    class WithValue(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value, self.out = (linear() for _ in range(4))
            self.mlp = Block(linear)

        def forward(self, x):
            v = self.value(x)
            y = F.scaled_dot_product_attention(self.query(x), self.key(x), v)
            return self.mlp(x + (self.out(y) + v))

    model = nn.Sequential(*(WithValue() for _ in range(4)), nn.Linear(WIDTH, 5))
    x = torch.randn(2, 7, WIDTH)
    plan = fanin.plan(model, x)
    assert plan["0.out.weight"].scheme == Zeros()
    assert plan["0.value.weight"].std > 0
    fanin.apply(plan, model, seed=0)
    model(x).square().sum().backward()
    assert model[0].out.weight.grad.abs().max() > 0


def test_norms_in_a_stream_of_attention_keep_the_usual_rule():
    class Normed(Attending):
        def forward(self, x):
            return super().forward(F.layer_norm(x, (WIDTH,)))

    model = nn.Sequential(*(Normed() for _ in range(4)), nn.Linear(WIDTH, 5))
    plan = fanin.plan(model, torch.randn(2, 7, WIDTH))
    assert plan["0.mlp.layers.1.weight"].scheme != Zeros()
    assert plan["0.out.weight"].scheme != Zeros()
