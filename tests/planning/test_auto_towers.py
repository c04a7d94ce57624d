"""auto for towers compared by their cosines: the loss starts at ln B, whatever the temperature."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.graph import record
from fanin.graph.roles import read_roles
from fanin.schemes import Blockwise, LeCun, Zeros

FEATURES = 32
PAIRS = 24


def draws(*widths, rows=PAIRS):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(rows, width, generator=generator) for width in widths)


def by_hand(x):
    return x / x.norm(dim=-1, keepdim=True)


def rms(x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def unit(x):
    return F.normalize(x, dim=-1)


COMPARED = {
    "normalize": lambda u, v: unit(u) @ unit(v).T,
    "by hand": lambda u, v: by_hand(u) @ by_hand(v).T,
    "rms": lambda u, v: rms(u) @ rms(v).T,
    "einsum": lambda u, v: torch.einsum("id,jd->ij", unit(u), unit(v)),
    "all pairs": lambda u, v: F.cosine_similarity(u[:, None], v[None], dim=-1),
    "pairs": lambda u, v: F.cosine_similarity(u, v, dim=-1),
    "sigmoid": lambda u, v: torch.sigmoid(unit(u) @ unit(v).T - 3),
    "loss": lambda u, v: F.cross_entropy(unit(u) @ unit(v).T, torch.arange(len(u))),
}
NOT_COMPARED = {
    "dot product": lambda u, v: u @ v.T,
    "centred": lambda u, v: F.layer_norm(u, u.shape[1:]) @ F.layer_norm(v, v.shape[1:]).T,
    "flat at 0": lambda u, v: F.relu(unit(u) @ unit(v).T),
    "squared": lambda u, v: (unit(u) @ unit(v).T).pow(2),
    "over samples": lambda u, v: unit(u).T @ unit(v),
    "attention": lambda u, v: torch.softmax(unit(u) @ unit(v).T, -1) @ v,
}


class Towers(nn.Module):
    def __init__(self, compare, outputs=FEATURES, scale=14.3):
        super().__init__()
        self.image = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, outputs))
        self.text = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, outputs))
        self.compare, self.scale = compare, nn.Parameter(torch.tensor(scale))

    def forward(self, image, text):
        return self.scale * self.compare(self.image(image), self.text(text))


def last_two(model, *inputs):
    plan = fanin.plan(model, inputs)
    return plan["image.2.weight"].scheme, plan["text.2.weight"].scheme


@pytest.mark.parametrize("form", COMPARED)
def test_each_tower_writes_features_of_its_own(form):
    image, text = last_two(Towers(COMPARED[form]), *draws(20, 12))
    assert image == Blockwise((LeCun(), Zeros()))
    assert text == Blockwise((Zeros(), LeCun()))


@pytest.mark.parametrize("form", NOT_COMPARED)
def test_other_products_are_no_cosines_between_towers(form):
    assert LeCun() in last_two(Towers(NOT_COMPARED[form]), *draws(20, 12))


@pytest.mark.parametrize("outputs", [32, 33, 2], ids=str)
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0], ids=str)
def test_the_loss_starts_at_ln_of_the_batch(scale, outputs):
    model = Towers(COMPARED["normalize"], outputs, scale)
    inputs, target = draws(20, 12), torch.arange(PAIRS)
    fanin.initialize(model, inputs)
    assert F.cross_entropy(model(*inputs), target).item() == pytest.approx(
        math.log(PAIRS), abs=1e-6
    )


def test_every_weight_of_both_towers_moves_within_two_steps():
    model = Towers(COMPARED["normalize"])
    inputs, target = draws(20, 12), torch.arange(PAIRS)
    fanin.initialize(model, inputs)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(*inputs), target).backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        if name.endswith("weight"):
            rows = parameter.grad.abs().sum(1)
            assert (rows > 0).double().mean() > 0.8, name  # but for ReLUs that no sample excites
            assert len(parameter.grad.unique(dim=0)) > 0.8 * len(rows), name


def test_the_check_finds_nothing_wrong():
    model, inputs = Towers(COMPARED["normalize"]), draws(20, 12)
    fanin.initialize(model, inputs)
    assert fanin.check(model, inputs, target=torch.arange(PAIRS)).ok


def test_three_towers_share_the_features():
    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(5, 10), nn.Linear(6, 10), nn.Linear(7, 10)

        def forward(self, a, b, c):
            a, b, c = unit(self.a(a)), unit(self.b(b)), unit(self.c(c))
            return a @ b.T, b @ c.T, a @ c.T

    model, inputs = Three(), draws(5, 6, 7)
    fanin.initialize(model, inputs)
    assert [(m.weight != 0).any(1).nonzero().flatten().tolist() for m in model.children()] == [
        [0, 1, 2], [3, 4, 5], [6, 7, 8, 9]
    ]  # fmt: skip
    assert all(not out.abs().max() for out in model(*inputs))


def test_one_projection_for_both_sides_is_no_pair_of_towers():
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(20, 10)

        def forward(self, a, b):
            return unit(self.layer(a)) @ unit(self.layer(b)).T

    model, inputs = Siamese(), draws(20, 20)
    assert fanin.plan(model, inputs)["layer.weight"].scheme == LeCun()
    roles = read_roles(record(model, inputs))
    assert roles["layer.weight"].compared is None


def test_a_tower_that_ends_in_a_residual_sum_leaves_the_other_as_it_is():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.text = (
                nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(12, 8)
            )  # fmt: skip

        def forward(self, image, text):
            x = image + self.second(F.gelu(self.first(image)))
            return unit(x) @ unit(self.text(text)).T

    assert fanin.plan(Half(), draws(8, 12))["text.weight"].scheme == LeCun()


def test_a_weight_that_is_normalised_itself_has_no_share():
    model = Towers(COMPARED["normalize"])
    nn.utils.parametrizations.weight_norm(model.text[2])
    plan = fanin.plan(model, draws(20, 12))
    assert not [n for n in plan if n.startswith("text") and isinstance(plan[n].scheme, Blockwise)]


def test_a_share_is_drawn_as_if_it_were_alone():
    model = Towers(COMPARED["normalize"])
    inputs = draws(20, 12)
    plan = fanin.plan(model, inputs)
    fanin.apply(plan, model)
    whole = model.text[2].weight.detach().clone()
    assert torch.equal(whole[:16], torch.zeros_like(whole[:16]))
    assert whole[16:].std().item() == pytest.approx(40**-0.5, rel=4 * (2 * 16 * 40) ** -0.5)
