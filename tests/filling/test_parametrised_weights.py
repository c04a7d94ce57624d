"""Writes take effect through weight_norm, spectral_norm, orthogonal and the user's own."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import fanin
from fanin.errors import PlanError
from fanin.filling.through import POWER_ITERATIONS

OLD = pytest.mark.filterwarnings("ignore::FutureWarning")


def plain_draw(recipe, layer=None, seed=3):
    net = nn.Sequential(layer or nn.Linear(6, 5))
    fanin.initialize(net, recipe=recipe, seed=seed)
    return net[0].weight.detach()


@OLD
@pytest.mark.parametrize("recipe", ["xavier_uniform", "orthogonal", "ones"])
@pytest.mark.parametrize(
    "wrap",
    [
        parametrizations.weight_norm,
        nn.utils.weight_norm,
        lambda m: parametrizations.weight_norm(m, dim=None),
        lambda m: nn.utils.weight_norm(m, dim=None),
        lambda m: nn.utils.weight_norm(m, dim=1),
    ],
    ids=["new", "old", "new, whole", "old, whole", "old, dim 1"],
)
def test_weight_norm_shows_the_schemes_draw(wrap, recipe):
    net = nn.Sequential(wrap(nn.Linear(6, 5)))
    fanin.initialize(net, recipe=recipe, seed=3)
    wanted = plain_draw(recipe)
    assert torch.allclose(net[0].weight, wanted, atol=1e-6)
    net(torch.randn(2, 6)).sum().backward()
    assert torch.allclose(net[0].weight, wanted, atol=1e-6)  # also after the next forward pass


@OLD
@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, nn.utils.weight_norm])
def test_a_zero_weight_under_weight_norm_is_zero_and_can_learn(wrap):
    net = nn.Sequential(wrap(nn.Conv1d(3, 4, 2)))
    fanin.initialize(net, recipe="zeros")
    out = net(torch.randn(2, 3, 9))
    assert not out.any()
    out.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@OLD
@pytest.mark.parametrize("wrap", [parametrizations.spectral_norm, nn.utils.spectral_norm])
@pytest.mark.parametrize("build", [lambda: nn.Linear(6, 5), lambda: nn.ConvTranspose2d(3, 4, 2)])
def test_spectral_norm_has_norm_one_from_the_first_step(wrap, build):
    net = nn.Sequential(wrap(build())).eval()
    fanin.initialize(net, recipe="normal_3", seed=3)
    drawn = plain_draw("normal_3", build())
    net(torch.randn(2, 6) if drawn.dim() == 2 else torch.randn(2, 3, 4, 4))
    matrix = drawn.movedim(1, 0) if drawn.dim() == 4 else drawn  # torch's choice of axis
    sigma = torch.linalg.matrix_norm(matrix.flatten(1), 2)
    # Power iteration from a random start: close from below after 15 steps.
    assert torch.allclose(net[0].weight, drawn / sigma, rtol=0.03, atol=1e-3)
    assert POWER_ITERATIONS == 15


@pytest.mark.parametrize("shape", [(6, 6), (6, 4), (4, 6)], ids=str)
@pytest.mark.parametrize("recipe", ["orthogonal", "kaiming_normal"])
def test_an_orthogonal_weight_is_orthogonal(shape, recipe):
    net = nn.Sequential(parametrizations.orthogonal(nn.Linear(*shape)))
    again = copy.deepcopy(net)
    for model in (net, again):
        fanin.initialize(model, recipe=recipe, seed=3)
    assert torch.equal(net[0].weight, again[0].weight)
    small = min(shape)
    w = net[0].weight.detach()
    gram = w @ w.T if w.shape[0] == small else w.T @ w
    assert torch.allclose(gram, torch.eye(small), atol=1e-5)
    if recipe == "orthogonal":
        assert torch.allclose(w, plain_draw("orthogonal", nn.Linear(*shape)), atol=1e-5)


def test_an_orthogonal_parametrisation_is_planned_as_orthogonal():
    net = nn.Sequential(parametrizations.orthogonal(nn.Linear(6, 6)))
    plan = fanin.plan(net, recipe="kaiming_normal")
    name = "0.parametrizations.weight.original"
    assert plan[name].std == pytest.approx(6**-0.5)
    assert "orthogonal matrices only" in plan[name].reason
    fanin.apply(plan, net)
    assert fanin.planning.compare_with_tensors(plan, net) == []


def test_an_orthogonal_map_that_cannot_be_assigned_is_left():
    wrapped = parametrizations.orthogonal(nn.Linear(6, 6), use_trivialization=False)
    fixed = parametrizations.orthogonal(
        nn.Linear(6, 6), orthogonal_map="cayley", use_trivialization=False
    )
    ledger = fanin.initialize(nn.Sequential(wrapped, fixed), recipe="orthogonal")
    statuses = {n: e.status.value for n, e in ledger.items() if "original" in n}
    assert statuses == {
        "0.parametrizations.weight.original": "left",
        "1.parametrizations.weight.original": "left",
    }
    householder = parametrizations.orthogonal(
        nn.Linear(6, 6), orthogonal_map="householder", use_trivialization=False
    )
    net = nn.Sequential(householder)
    fanin.initialize(net, recipe="orthogonal", seed=3)
    assert torch.allclose(net[0].weight, plain_draw("orthogonal", nn.Linear(6, 6)), atol=1e-5)


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).mT

    def right_inverse(self, x):
        return x.triu()


class Squared(nn.Module):
    def forward(self, x):
        return x * x


def test_a_parametrisation_of_the_users_own():
    net = nn.Sequential(nn.Linear(5, 5))
    parametrize.register_parametrization(net[0], "weight", Symmetric())
    fanin.initialize(net, recipe="normal_1", seed=3)
    drawn = plain_draw("normal_1", nn.Linear(5, 5))
    assert torch.equal(net[0].weight, drawn.triu() + drawn.triu(1).T)


def test_without_an_inverse_the_parameter_itself_is_drawn_and_said_so():
    net = nn.Sequential(nn.Linear(5, 5))
    parametrize.register_parametrization(net[0], "weight", Squared())
    plan = fanin.plan(net, recipe="normal_1")
    assert plan["0.parametrizations.weight.original"].through is None
    fanin.apply(plan, net, seed=3)
    drawn = plain_draw("normal_1", nn.Linear(5, 5))
    assert torch.equal(net[0].weight, drawn * drawn)


def test_a_failing_inverse_leaves_the_model_as_it_was():
    class Fails(Symmetric):
        def right_inverse(self, x):
            if getattr(self, "armed", False):
                raise ValueError("no inverse today")
            return x

    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 5)), nn.Linear(5, 5))
    step = Fails()
    parametrize.register_parametrization(net[1], "weight", step)
    step.armed = True
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    with pytest.raises(ValueError, match="no inverse today"):
        fanin.initialize(net, recipe="normal_1")
    assert all(torch.equal(before[n], p) for n, p in net.named_parameters())


def test_an_inverse_of_another_shape_is_an_error():
    class Cut(Symmetric):
        def right_inverse(self, x):
            return x if not getattr(self, "armed", False) else x[:2]

    net = nn.Sequential(nn.Linear(5, 5))
    step = Cut()
    parametrize.register_parametrization(net[0], "weight", step)
    step.armed = True
    with pytest.raises(PlanError, match="right_inverse gives shape"):
        fanin.initialize(net, recipe="normal_1")


def test_the_ledger_names_what_was_computed_along():
    net = nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 4)))
    ledger = fanin.initialize(net, recipe="normal_1")
    assert "recomputed" in ledger["0.parametrizations.weight.0._u"].reason
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)))
    ledger = fanin.initialize(net, recipe="normal_1")
    assert ledger["0.parametrizations.weight.original0"].status == "initialised"
    assert "weight_norm" in ledger["0.parametrizations.weight.original0"].reason
