"""auto behind a pre-norm: SmallInit's 2/(5·fan_in), whoever wrote the norm, and nowhere else."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin

WIDTH = 16
SMALL = math.sqrt(2 / (WIDTH + 4 * WIDTH))
X = torch.randn(4, 6, WIDTH, generator=torch.Generator().manual_seed(0))


class ByHand(nn.Module):
    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Block(nn.Module):
    def __init__(self, form, norm=None):
        super().__init__()
        self.form, self.norm = form, norm or nn.LayerNorm(WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 40), nn.Linear(40, WIDTH)
        self.up = nn.Linear(WIDTH, 40) if form == "gated" else None
        self.modulation = nn.Linear(WIDTH, 2 * WIDTH) if form == "modulated" else None

    def forward(self, x):
        if self.form == "post":
            return self.norm(x + self.fc2(F.gelu(self.fc1(x))))
        if self.form == "closed":
            return x + self.norm(self.fc2(F.gelu(self.fc1(x))))
        h = self.norm(x)
        if self.modulation is not None:
            scale, shift = self.modulation(x.mean(1))[:, None].chunk(2, -1)
            h = h * (1 + scale) + shift
        inner = F.gelu(self.fc1(h)) if self.up is None else F.silu(self.fc1(h)) * self.up(h)
        return x + self.fc2(inner)


def planned(form, norm=None, before=None):
    blocks = [Block(form, norm and norm()) for _ in range(3)]
    model = nn.Sequential(before or nn.Identity(), *blocks, nn.Linear(WIDTH, 5))
    return fanin.plan(model, X)


NORMS = {
    "layer": lambda: nn.LayerNorm(WIDTH),
    "without scale": lambda: nn.LayerNorm(WIDTH, elementwise_affine=False),
    "rms": lambda: nn.RMSNorm(WIDTH),
    "by hand": ByHand,
}


@pytest.mark.parametrize("norm", NORMS)
def test_what_reads_a_pre_norm_starts_small(norm):
    plan = planned("pre", NORMS[norm])
    for block in ("1", "2", "3"):
        assert plan[f"{block}.fc1.weight"].std == pytest.approx(SMALL)
        assert "SmallInit" in plan[f"{block}.fc1.weight"].reason
        assert plan[f"{block}.fc2.weight"].std != pytest.approx(SMALL)


def test_both_factors_of_a_gated_product_start_small():
    plan = planned("gated")
    assert plan["2.fc1.weight"].std == pytest.approx(SMALL)
    assert plan["2.up.weight"].std == pytest.approx(SMALL)


def test_what_bends_the_normed_signal_stands_in_between():
    class Bent(Block):
        def forward(self, x):
            h = self.norm(x)
            return x + self.fc2(F.gelu(self.fc1(torch.where(h > 0, h, 0.1 * h))))

    plan = fanin.plan(nn.Sequential(Bent("pre"), Bent("pre"), nn.Linear(WIDTH, 5)), X)
    # A leaky ReLU of slope 0.1 passes (1 + 0.1²)/2 of the power.
    assert plan["1.fc1.weight"].std == pytest.approx(math.sqrt(2 / (1.01 * WIDTH)), rel=1e-3)


def test_a_norm_within_a_post_norm_branch_leaves_deepnorms_scale():
    class Both(Block):
        def __init__(self):
            super().__init__("gated")
            self.closing = nn.LayerNorm(WIDTH)

        def forward(self, x):
            return self.closing(super().forward(x))

    plan = fanin.plan(nn.Sequential(*(Both() for _ in range(3)), nn.Linear(WIDTH, 5)), X)
    assert plan["1.up.weight"].std == pytest.approx(12**-0.25 / 4)  # (4N)^(−¼), N = 3
    assert plan["1.fc1.weight"].std == pytest.approx(1 / 4)


def test_a_modulated_norm_is_still_one():
    plan = planned("modulated")
    assert plan["2.fc1.weight"].std == pytest.approx(SMALL)


def test_a_shift_of_all_places_is_no_stream():
    """One weight shifts both norms: the second sum reads what the first branch was made of."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.modulation = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH)
            self.a, self.b, self.c, self.d = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

        def forward(self, x, c):
            scale1, shift1, scale2, shift2 = self.modulation(c)[:, None].chunk(4, -1)
            x = x + self.b(F.gelu(self.a(self.norm(x) * (1 + scale1) + shift1)))
            return x + self.d(F.gelu(self.c(self.norm(x) * (1 + scale2) + shift2)))

    plan = fanin.plan(Twice(), (X, X[:, 0]))
    assert plan["a.weight"].std == pytest.approx(SMALL)
    assert plan["c.weight"].std == pytest.approx(SMALL)


@pytest.mark.parametrize("form", ["post", "closed"])
@pytest.mark.parametrize("before", [nn.Identity, lambda: nn.LayerNorm(WIDTH)], ids=["", "norm"])
def test_a_norm_on_the_stream_or_behind_the_branch_is_no_pre_norm(form, before):
    plan = planned(form, before=before())
    assert not [n for n, a in plan.items() if "SmallInit" in a.reason]


def test_the_convolutions_of_a_residual_image_net_keep_he():
    class Image(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(2))
            self.n, self.m = nn.BatchNorm2d(WIDTH), nn.BatchNorm2d(WIDTH)

        def forward(self, x):
            return x + self.b(F.relu(self.m(self.a(F.relu(self.n(x))))))

    plan = fanin.plan(nn.Sequential(Image(), Image()), torch.randn(4, WIDTH, 8, 8))
    assert plan["0.a.weight"].std == pytest.approx(math.sqrt(2 / (9 * WIDTH)), rel=1e-3)
