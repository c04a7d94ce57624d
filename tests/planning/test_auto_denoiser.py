"""auto on diffusion networks: what starts at zero, that it wakes, and what must stay open."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.planning import Action
from fanin.schemes import Zeros


def sines(t, size):
    steps = torch.arange(size // 2, device=t.device) / (size // 2)
    angle = t[:, None].float() * torch.exp(-math.log(1e4) * steps)
    return torch.cat([angle.sin(), angle.cos()], -1)


class Res(nn.Module):
    """Group norm, SiLU, convolution, twice; the time is added between."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, inputs), nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.norm2, self.conv2 = nn.GroupNorm(4, outputs), nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.time = nn.Linear(16, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, e):
        h = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(e))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    """A transformer layer between two 1 × 1 convolutions: a branch with sums of its own."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.inner = nn.GroupNorm(4, width), nn.LayerNorm(width)
        self.into, self.out = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.qkv, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        h = self.into(self.norm(x))
        tokens = h.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.inner(tokens)).chunk(3, -1)
        tokens = tokens + self.mixed(F.scaled_dot_product_attention(q, k, v))
        return x + self.out(tokens.transpose(1, 2).unflatten(2, h.shape[2:]))


class UNet(nn.Module):
    def __init__(self, channels=1):
        super().__init__()
        self.time1, self.time2 = nn.Linear(8, 16), nn.Linear(16, 16)
        self.into = nn.Conv2d(channels, 8, 3, 1, 1)
        self.down, self.lower = nn.ModuleList([Res(8, 8), Res(8, 8)]), nn.Conv2d(8, 16, 3, 2, 1)
        self.middle, self.attention = Res(16, 16), Attention(16)
        self.upper, self.up = nn.Conv2d(16, 8, 3, 1, 1), nn.ModuleList([Res(16, 8), Res(16, 8)])
        self.norm, self.out = nn.GroupNorm(4, 8), nn.Conv2d(8, channels, 3, 1, 1)

    def embedded(self, t):
        return self.time2(F.silu(self.time1(sines(t, 8))))

    def forward(self, x, t):
        e, skips = self.embedded(t), []
        x = self.into(x)
        for block in self.down:
            x = block(x, e)
            skips.append(x)
        x = self.attention(self.middle(self.lower(x), e))
        x = self.upper(F.interpolate(x, scale_factor=2.0))
        for block in self.up:
            x = block(torch.cat([x, skips.pop()], 1), e)
        return self.out(F.silu(self.norm(x)))


class DiTBlock(nn.Module):
    def __init__(self, width, *, plus=1.0):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.modulation, self.plus = nn.Linear(width, 3 * width), plus

    def forward(self, x, c):
        shift, scale, gate = self.modulation(F.silu(c))[:, None].chunk(3, -1)
        h = self.norm(x) * (self.plus + scale) if self.plus else self.norm(x) * scale
        return x + gate * self.fc2(F.gelu(self.fc1(h + shift)))


class DiT(nn.Module):
    def __init__(self, width=16, blocks=3, **settings):
        super().__init__()
        self.width = width
        self.patch, self.out = nn.Conv2d(1, width, 2, 2), nn.Linear(width, 4)
        self.time1, self.time2 = nn.Linear(width, width), nn.Linear(width, width)
        self.blocks = nn.ModuleList(DiTBlock(width, **settings) for _ in range(blocks))

    def embedded(self, t):
        return self.time2(F.silu(self.time1(sines(t, self.width))))

    def forward(self, x, t):
        c, h = self.embedded(t), self.patch(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            h = block(h, c)
        h = self.out(h).unflatten(1, (4, 4)).unflatten(-1, (2, 2))
        return h.permute(0, 1, 3, 2, 4).reshape(-1, 1, 8, 8)


def noisy(channels=1):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, channels, 8, 8, generator=generator)
    return x, torch.tensor([3, 50, 400, 900])


def zeros(plan):
    return {name for name, a in plan.items() if name.endswith("weight") and a.scheme == Zeros()}


def test_a_unet_starts_closed_where_its_papers_close_it():
    plan = fanin.plan(UNet(), noisy())
    ends = {f"{part}.{k}.conv2.weight" for part in ("down", "up") for k in (0, 1)}
    # The attention's own branch is closed at its end, and open inside.
    assert zeros(plan) == ends | {"middle.conv2.weight", "attention.out.weight", "out.weight"}


def test_a_dit_starts_with_modulations_and_output_at_zero():
    plan = fanin.plan(DiT(), noisy())
    assert zeros(plan) == {f"blocks.{k}.modulation.weight" for k in range(3)} | {"out.weight"}
    assert not any("adaLN" in line for line in plan.advice)


@pytest.mark.parametrize("build", [UNet, DiT])
def test_every_weight_wakes_within_three_steps(build):
    model, (x, t) = build(), noisy()
    fanin.initialize(model, (x, t))
    assert model(x, t).abs().max() == 0
    awake = set()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(model(x, t), torch.ones_like(x)).backward()
        awake |= {n for n, p in model.named_parameters() if p.grad.abs().sum() > 0}
        optimizer.step()
    asleep = {n for n, _ in model.named_parameters() if n.endswith("weight")} - awake
    assert not asleep


@pytest.mark.parametrize("build", [UNet, DiT])
def test_what_the_constructor_closed_is_kept_and_said_so(build):
    model = build()
    fresh = zeros(fanin.plan(model, noisy()))
    for name in fresh:
        nn.init.zeros_(model.get_parameter(name))
    plan = fanin.plan(model, noisy())
    for name in fresh:
        assert plan[name].action is Action.LEAVE
        assert "constructor's zeros stay" in plan[name].reason


def test_a_scale_without_one_added_stays_open():
    plan = fanin.plan(DiT(plus=0.0), noisy())
    assert zeros(plan) == {"out.weight"}


class TwoModulations(DiT):
    """The first modulation's matrix also makes the condition that the second one reads."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(self.width, self.width)
        self.last = nn.LayerNorm(self.width, elementwise_affine=False)

    def forward(self, x, t):
        c = self.shared(F.silu(self.embedded(t)))
        h = self.patch(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            h = block(h, c)
        h = self.out(self.last(h) * (1 + c[:, None])).unflatten(1, (4, 4)).unflatten(-1, (2, 2))
        return h.permute(0, 1, 3, 2, 4).reshape(-1, 1, 8, 8)


def test_two_zero_matrices_never_stand_in_a_row():
    plan = fanin.plan(TwoModulations(), noisy())
    assert plan["shared.weight"].role == "modulation"
    assert plan["shared.weight"].std > 0
    assert plan["blocks.0.modulation.weight"].scheme == Zeros()


class WithoutTime(UNet):
    def forward(self, x):
        return super().forward(x, torch.zeros(len(x)))


class TimeAsNumber(UNet):
    """A number a sample that no sine turns into a time step."""

    def embedded(self, t):
        return self.time2(F.silu(self.time1(t[:, None].expand(-1, 8))))


class Classifier(UNet):
    def forward(self, x, t):
        return super().forward(x, t).flatten(1)


@pytest.mark.parametrize("build", [WithoutTime, TimeAsNumber, Classifier])
def test_other_nets_are_left_open(build):
    x, t = noisy()
    given = x if build is WithoutTime else (x, t.float())
    plan = fanin.plan(build(), given)
    assert not zeros(plan)


def test_rotary_angles_are_no_time_step():
    class Rotary(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))

        def turned(self, x, p):
            angle = p[:, None].float() * torch.exp(-torch.arange(4.0))
            a, b = x.chunk(2, -1)
            return torch.cat(
                [a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1
            )

        def forward(self, x, p):
            q, k = self.turned(self.q(x), p), self.turned(self.k(x), p)
            return x + self.o(F.scaled_dot_product_attention(q, k, self.v(x)))

    plan = fanin.plan(Rotary(), (torch.randn(4, 4, 8), torch.arange(4)))
    assert not zeros(plan)


def test_a_norm_at_zero_keeps_the_output_open():
    model = UNet()
    nn.init.zeros_(model.norm.weight)
    plan = fanin.plan(model, noisy())
    assert plan["out.weight"].std > 0


def test_the_variance_may_double_the_channels():
    model = UNet()
    model.out = nn.Conv2d(8, 2, 3, 1, 1)
    assert "out.weight" in zeros(fanin.plan(model, noisy()))


def test_pixels_far_from_unit_size_change_no_zero():
    x, t = noisy()
    assert "out.weight" in zeros(fanin.plan(UNet(), (30 * x, t)))


def test_on_the_meta_device():
    with torch.device("meta"):
        model = DiT()
    plan = fanin.plan(model, noisy())
    assert "out.weight" in zeros(plan)
    assert "blocks.0.modulation.weight" in zeros(plan)
