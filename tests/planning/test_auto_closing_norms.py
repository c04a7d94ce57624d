"""auto at the end of residual branches: batch and group norms close them, where that can open."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin

WIDTH = 8
X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Bottleneck(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), with what may stand in the way of closing it."""

    def __init__(self, form="", norm=nn.BatchNorm2d):
        super().__init__()
        self.form = form
        self.conv1, self.norm1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), norm(WIDTH)
        self.conv2, self.norm2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), norm(WIDTH)
        if form == "projected":
            self.shortcut, self.norm3 = nn.Conv2d(WIDTH, WIDTH, 1), norm(WIDTH)
        if form == "squeezed":
            self.squeeze = nn.Linear(WIDTH, WIDTH)
        if form == "scaled":
            self.scale = nn.Parameter(torch.zeros(WIDTH, 1, 1))
        if form == "frozen":
            self.norm2.weight.requires_grad_(False)
        if form == "zero weight":
            nn.init.zeros_(self.conv2.weight)

    def branch(self, x):
        h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.form == "bent":
            return F.relu(h)
        if self.form == "squeezed":
            return h * torch.sigmoid(self.squeeze(h.mean((2, 3))))[..., None, None]
        return h * self.scale if self.form == "scaled" else h

    def forward(self, x):
        skip = self.norm3(self.shortcut(x)) if self.form == "projected" else x
        return F.relu(skip + self.branch(x))


def net(form="", norm=nn.BatchNorm2d, blocks=3):
    blocks = [Bottleneck(form, norm) for _ in range(blocks)]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 5)]
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3, padding=1), *blocks, *pool)


def scales(plan):
    return {
        name: entry.scheme and entry.scheme.expected((WIDTH,), entry.axes).mean
        for name, entry in plan.items()
        if "norm" in name and name.endswith("weight")
    }


def groups(width):
    return nn.GroupNorm(2, width)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, groups], ids=["batch", "group"])
@pytest.mark.parametrize("form", ["", "projected"], ids=["identity", "projected"])
def test_the_last_norm_of_a_branch_starts_at_zero_and_no_other(form, norm):
    found = scales(fanin.plan(net(form, norm), X))
    assert len(found) == (9 if form else 6)
    assert all(value == (0 if "norm2" in name else 1) for name, value in found.items())


def test_every_block_starts_as_the_identity_and_opens_with_the_first_steps():
    model = net().train()
    fanin.initialize(model, X)
    stream = F.relu(model[0](X))
    with torch.no_grad():
        through = model[1](stream)
    assert torch.equal(through, stream)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    target = torch.tensor([0, 1, 2, 3])
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(X), target).backward()
        optimizer.step()
    closed = {n for n, p in model.named_parameters() if not p.grad.abs().sum() > 0}
    # A bias in front of a batch norm never has a gradient.
    assert not {n for n in closed if not n.endswith(("conv1.bias", "conv2.bias"))}


@pytest.mark.parametrize("form", ["bent", "squeezed", "scaled", "frozen", "zero weight"])
def test_a_branch_that_might_stay_closed_is_left_open(form):
    plan = fanin.plan(net(form), X)
    assert all(value in (1, None) for value in scales(plan).values())
    if form == "frozen":
        assert all(plan[n].scheme is None for n in plan if n.endswith("norm2.weight"))


def test_a_branch_around_another_is_left_open():
    class Skip(nn.Module):
        """A long skip over a branch that holds blocks of its own, as in a UNet's gate."""

        def __init__(self):
            super().__init__()
            self.inner, self.conv, self.norm = (
                Bottleneck(),
                nn.Conv2d(WIDTH, WIDTH, 1),
                nn.BatchNorm2d(WIDTH),
            )

        def forward(self, x):
            return x + self.norm(self.conv(self.inner(x)))

    model = nn.Sequential(nn.Conv2d(3, WIDTH, 3), Skip(), nn.Flatten(), nn.LazyLinear(5))
    model(X)
    assert fanin.plan(model, X)["1.norm.weight"].scheme == fanin.schemes.Ones()


def test_layer_norms_at_the_end_of_a_transformers_branch_stay_at_one():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.norm = nn.Linear(8, 16), nn.Linear(16, 8), nn.LayerNorm(8)

        def forward(self, x):
            return x + self.norm(self.fc2(F.gelu(self.fc1(x))))

    plan = fanin.plan(nn.Sequential(nn.Linear(8, 8), Block(), Block()), torch.randn(4, 8))
    assert plan["1.norm.weight"].scheme == fanin.schemes.Ones()


def test_the_authors_constant_stays():
    model = net()
    nn.init.constant_(model[1].norm2.weight, 0.2)
    assert fanin.plan(model, X)["1.norm2.weight"].scheme is None


class AddsOne(nn.Module):
    """Gemma's norm: a scale of 1 + weight."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("recipe", ["auto", "gpt2", "kaiming_normal"])
def test_a_norm_that_adds_one_to_its_scale_starts_at_zero(recipe, device):
    with torch.device(device):
        model = nn.Sequential(nn.Linear(8, 8), AddsOne(8), nn.Linear(8, 8))
    plan = fanin.plan(model, torch.randn(4, 8, device=device), recipe)
    entry = plan["1.weight"]
    if entry.scheme is None:
        assert device == "cpu"
        return
    assert entry.scheme == fanin.schemes.Zeros()
