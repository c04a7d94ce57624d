"""First layers under auto: matched to the data that the model was called on."""

import pytest
import torch
from torch import nn

import fanin
from fanin.graph.input_moments import moments_of_input
from fanin.planning.auto.first_layer import far_from_one
from fanin.schemes import Kaiming, Scaled


def pixels(*shape, scale=255.0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * scale


def small():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


@pytest.mark.parametrize("scale", [255.0, 1.0, 1e-3])
def test_a_layer_of_raw_pixels_gives_units_of_the_usual_size(scale):
    x, net = pixels(256, 64, scale=scale), small()
    plan = fanin.plan(net, x)
    fanin.apply(plan, net)
    # He: E[z²] = 2 for data of second moment 1. The mean of the pixels is common to all samples,
    # so that 64 units differ by chance: √(2/64) = 18 % of E[z²], three of which are allowed.
    assert net[0](x).square().mean().item() == pytest.approx(2, rel=0.55)
    assert isinstance(plan["0.weight"].scheme, Scaled)
    assert "for inputs of second moment" in plan["0.weight"].reason
    assert plan["2.weight"].scheme == fanin.plan(net, torch.randn(8, 64))["2.weight"].scheme


def test_the_factor_is_one_over_the_root_of_the_second_moment():
    x = pixels(4096, 64)
    plan = fanin.plan(small(), x)
    # E[u²] = 255²/3 for uniform pixels; two digits are kept.
    assert plan["0.weight"].scheme.factor == pytest.approx(3**0.5 / 255, rel=0.02)
    (advice,) = plan.advice
    assert "standardise" in advice


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(64, 64, generator=torch.Generator().manual_seed(0)),
        torch.randn(2, 64, generator=torch.Generator().manual_seed(0)) * 1.2,
        torch.zeros(8, 64),
        torch.full((8, 64), 7.0),
        torch.full((8, 64), float("nan")),
        torch.full((8, 64), float("inf")),
    ],
    ids=["normal", "nearly unit", "zeros", "constant", "nan", "infinite"],
)
def test_unit_and_unusable_data_change_nothing(x):
    plan = fanin.plan(small(), x)
    assert plan["0.weight"].scheme == Kaiming()
    assert plan["0.weight"].std == pytest.approx((2 / 64) ** 0.5)
    said = " ".join((*plan["0.weight"].evidence, *plan.advice))
    bad = not torch.isfinite(x).all()
    assert ("NaN or infinite" in " ".join(plan.advice)) == bad
    assert ("planned as for data of second moment 1" in said) == (bad or x.std() == 0)


def test_a_few_large_samples_of_a_small_batch_decide_nothing():
    x = torch.zeros(4, 64)
    x[0] = 100.0 * torch.randn(64, generator=torch.Generator().manual_seed(0))
    assert fanin.plan(small(), x)["0.weight"].scheme == Kaiming()


def test_on_meta_nothing_is_known_of_the_data():
    with torch.device("meta"):
        net = small()
    assert fanin.plan(net, pixels(8, 64))["0.weight"].scheme == Kaiming()


def test_indices_have_no_size():
    net = nn.Sequential(nn.Embedding(100, 16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    plan = fanin.plan(net, torch.randint(0, 100, (4, 7)))
    assert not any(isinstance(a.scheme, Scaled) for a in plan.values())


def test_a_norm_behind_the_layer_hides_its_scale():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 2)
    )
    plan = fanin.plan(net, pixels(8, 3, 8, 8))
    assert not isinstance(plan["0.weight"].scheme, Scaled)


class Wrapped(nn.Module):
    """A model that looks at its inputs in one way or another before its first layer."""

    def __init__(self, look, inputs=48):
        super().__init__()
        self.look, self.net = look, nn.Sequential(nn.Linear(inputs, 32), nn.ReLU())
        self.head = nn.Linear(32, 2)

    def forward(self, x):
        return self.head(self.net(self.look(x)))


@pytest.mark.parametrize(
    ("look", "factor"),
    [
        (lambda x: x.flatten(1), 3**0.5 / 255),
        (lambda x: (x / 255).flatten(1), 3**0.5),
        (lambda x: x.mul(2.0).permute(0, 2, 3, 1).reshape(len(x), -1), 3**0.5 / 510),
        (lambda x: torch.cat([x.flatten(1)[:, :0], x.flatten(1)], 1), None),  # a slice: not known
        (lambda x: (x.flatten(1) - 127.5) / 73.6, None),  # its own standardisation
        (lambda x: nn.functional.layer_norm(x.flatten(1), (48,)), None),
        (lambda x: torch.sin(x.flatten(1)), None),
    ],
    ids=["flat", "divided", "permuted", "sliced", "standardised", "normed", "bent"],
)
def test_what_stands_between_input_and_layer(look, factor):
    plan = fanin.plan(Wrapped(look), pixels(512, 3, 4, 4))
    scheme = plan["net.0.weight"].scheme
    if factor is None:
        assert not isinstance(scheme, Scaled)
    else:
        assert scheme.factor == pytest.approx(factor, rel=0.05)


def test_two_inputs_side_by_side_count_by_their_sizes():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(40, 32), nn.Linear(32, 2)

        def forward(self, a, b):
            return self.head(torch.relu(self.first(torch.cat([a, b], 1))))

    a, b = 10 * torch.randn(512, 10), torch.randn(512, 30)
    plan = fanin.plan(Two(), (a, b))
    # E[x²] = (10·100 + 30·1)/40.
    assert plan["first.weight"].scheme.factor == pytest.approx((1030 / 40) ** -0.5, rel=0.1)


def test_a_residual_net_and_a_recurrent_one_are_matched_too():
    class Res(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            x = self.stem(x)
            x = x + self.b(torch.relu(self.a(x)))
            return self.head(x.mean((2, 3)))

    plan = fanin.plan(Res(), pixels(64, 3, 8, 8))
    scaled = [name for name, a in plan.items() if isinstance(a.scheme, Scaled)]
    assert scaled == ["stem.weight"]

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    plan = fanin.plan(Recurrent(), pixels(64, 5, 6))
    scaled = [name for name, a in plan.items() if isinstance(a.scheme, Scaled)]
    assert scaled == ["rnn.weight_ih_l0"]


def test_the_first_layer_of_a_deep_stack_keeps_its_form():
    layers = [m for _ in range(30) for m in (nn.Linear(64, 64), nn.Tanh())]
    net = nn.Sequential(*layers, nn.Linear(64, 10))
    x = pixels(64, 64)
    fanin.initialize(net, x)
    unit = (x / x.square().mean().sqrt()).detach()
    assert net[0](x).square().mean().item() == pytest.approx(1 / 60, rel=0.6)
    plan = fanin.plan(net, unit)
    assert plan["2.weight"].scheme == fanin.plan(net, x)["2.weight"].scheme


@pytest.mark.parametrize("shape", [(2, 8), (2, 32), (4, 4), (16,)])
def test_few_standard_normal_numbers_pass_for_standardised(shape):
    """Also two samples that happen to be alike; numbers ten times as large seldom pass."""
    generator = torch.Generator().manual_seed(0)
    many = [moments_of_input(torch.randn(shape, generator=generator)) for _ in range(2000)]
    assert sum(far_from_one(m) for m in many) / len(many) < 0.01
    wrong = [moments_of_input(10 * torch.randn(shape, generator=generator)) for _ in range(2000)]
    assert sum(far_from_one(m) for m in wrong) / len(wrong) > 0.8
