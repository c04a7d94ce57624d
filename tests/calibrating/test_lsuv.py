"""LSUV: the output of every weight has unit std on the batch, whatever the graph."""

import copy
import importlib.util
import re

import pytest
import torch
from observed_layers import Residual, block, chain, convolutions, numbers, outputs, stds
from torch import nn

import fanin
from fanin.errors import DataError, PlanError, RecordError
from fanin.recipes import LSUV
from fanin.schemes import Normal, Orthogonal, Scaled

BAND = 0.1  # the paper's tolerance
ROUNDING = 1e-4


class Shared(nn.Module):
    """One matrix used five times in a row: its output grows as the fifth power of its scale."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = (nn.Linear(24, 24) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        for _ in range(5):
            x = torch.relu(self.again(x))
        return self.last(x)


class Functional(nn.Module):
    """Weights that no layer of torch.nn holds, one of them (in, out), one computed from two."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(16, 24))
        self.experts = nn.Parameter(torch.randn(3, 24, 8))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = torch.relu(x @ self.w)
        return x @ self.w, torch.einsum("bi,eio->beo", hidden, self.experts)


class Exponential(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x * 1e4)


class Tied(nn.Module):
    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.mix = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16) if norm else nn.Identity()
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(torch.tanh(self.mix(self.table(ids)))))


@pytest.mark.parametrize(
    ("build", "x"),
    [
        (chain, numbers(64, 32)),
        (lambda: chain(activation=nn.Tanh), 5 * numbers(64, 32) + 1),
        (Residual, numbers(64, 32)),
        (convolutions, numbers(8, 3, 12, 12)),
        (Shared, numbers(64, 24)),
    ],
    ids=["chain", "tanh", "residual", "convolutions", "shared"],
)
def test_every_output_has_unit_std(build, x):
    model = build()
    plain = copy.deepcopy(model)
    fanin.initialize(plain, x, "orthogonal")
    ledger = fanin.initialize(model, x, "lsuv")
    # The band of the shared matrix is over all of its uses, of which a hook sees the last.
    seen = {n: s for n, s in stds(model, x).items() if n != "again"}
    assert len(seen) > 1
    assert all(abs(s - 1) < BAND + ROUNDING for s in seen.values()), seen
    assert not all(abs(s - 1) < BAND for s in stds(plain, x).values())
    assert ledger.recipe == "lsuv"


def test_a_shared_weight_is_measured_over_all_uses():
    model, x = Shared(), numbers(64, 24)
    fanin.initialize(model, x, "lsuv")
    seen: list[torch.Tensor] = []
    handle = model.again.register_forward_hook(lambda m, i, o: seen.append(o.detach()))
    model(x)
    handle.remove()
    assert len(seen) == 5
    assert abs(float(torch.cat(seen).std(correction=0)) - 1) < BAND + ROUNDING


def test_a_transformer_block_with_packed_projections():
    model, x = block(), numbers(4, 6, 16)
    with torch.no_grad():
        model.norm1.weight.copy_(torch.linspace(1, 4, 16))
    plan = fanin.plan(model, x, LSUV(tolerance=0.02), keep=["norm1.weight"])
    fanin.apply(plan, model)
    factors = plan["self_attn.in_proj_weight"].scheme.factor
    assert isinstance(factors, tuple)
    assert len(factors) == 3
    normed = model.norm1(x)
    weights = model.self_attn.in_proj_weight.detach()
    for part in weights.chunk(3):  # each of q, k and v on its own
        assert abs(float((normed @ part.T).std(correction=0)) - 1) < 0.02 + ROUNDING
    # Dropout is on: its numbers are those of the seed at every run.
    torch.manual_seed(0)
    for name, std in stds(model, x).items():
        assert abs(std - 1) < 0.25, name  # another draw of dropout, over 384 numbers


def test_cross_attention_uses_the_pieces_of_one_matrix_apart():
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x, y):
            return self.attend(x, y, y)[0]

    model, x, y = Cross(), numbers(8, 5, 16), 7 * numbers(8, 9, 16, seed=1)
    plan = fanin.plan(model, (x, y), LSUV(tolerance=0.02))
    fanin.apply(plan, model)
    q, k, v = model.attend.in_proj_weight.detach().chunk(3)
    for part, given in ((q, x), (k, y), (v, y)):
        assert abs(float((given @ part.T).std(correction=0)) - 1) < 0.02 + ROUNDING
    factors = plan["attend.in_proj_weight"].scheme.factor
    assert factors[0] > 4 * factors[1]


def test_functional_weights_and_stacked_experts():
    model, x = Functional(), 3 * numbers(64, 16)
    fanin.initialize(model, x, LSUV(tolerance=0.01))
    for out in model(x):
        assert abs(float(out.std(correction=0)) - 1) < 0.01 + ROUNDING


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "no norm"])
def test_a_tied_table_is_scaled_once(norm):
    model = Tied(norm)
    ids = torch.randint(0, 50, (8, 12), generator=torch.Generator().manual_seed(0))
    plan = fanin.plan(model, ids, "lsuv")
    fanin.apply(plan, model)
    assert model.head.weight is model.table.weight
    assert abs(stds(model, ids)["head"] - 1) < BAND + ROUNDING
    assert plan["head.weight"].action == "tied"


def test_what_the_papers_package_does_on_a_chain():
    if importlib.util.find_spec("lsuv") is None:
        pytest.skip("the package lsuv is not installed")
    from lsuv import lsuv_with_singlebatch

    model, x = chain(8), numbers(128, 32)
    fanin.initialize(model, x, "orthogonal", seed=3)
    theirs = copy.deepcopy(model)
    lsuv_with_singlebatch(theirs, x, do_orthonorm=False, verbose=False)
    fanin.initialize(model, x, "lsuv", seed=3)
    for (name, ours), other in zip(model.named_parameters(), theirs.parameters(), strict=True):
        # They divide by the std with n − 1 in it: 1/(2n) apart at each layer.
        assert torch.allclose(ours, other, rtol=1e-3, atol=1e-6), name


def test_the_reason_says_what_was_measured():
    plan = fanin.plan(chain(3), numbers(64, 32), "lsuv")
    reasons = [plan[f"{i}.weight"].reason for i in (2, 4, 6)]
    assert all(
        re.fullmatch(r"LSUV: output std 0\.\d+ on the batch, so × \d\.\d+ \(1 pass\)", reason)
        for reason in reasons
    ), reasons
    assert "within 0.1 of 1" in plan["0.weight"].reason
    assert plan["0.weight"].scheme == Orthogonal()  # as drawn
    assert isinstance(plan["2.weight"].scheme, Scaled)
    assert "orthogonal on every layer weight" in plan["2.weight"].evidence[0]


def test_a_kept_bias_counts_as_part_of_the_output():
    model, x = chain(3), numbers(64, 32)
    with torch.no_grad():
        model[2].bias.copy_(0.9 * numbers(32, seed=5))
    before = model[2].bias.clone()
    plan = fanin.plan(model, x, "lsuv", keep=["2.bias"])
    fanin.apply(plan, model)
    assert torch.equal(model[2].bias, before)
    assert all(abs(s - 1) < BAND + ROUNDING for s in stds(model, x).values())
    assert "passes" in plan["2.weight"].reason  # one division is not enough


def test_an_output_that_does_not_vary_is_left_and_said():
    model, x = chain(3), numbers(64, 32)
    plan = fanin.plan(model, x, "lsuv", overrides={"2.weight": "zeros"})
    assert plan["2.weight"].reason == "your override for '2.weight'"
    assert "std 0" in plan["4.weight"].reason
    assert plan["4.weight"].scheme == Orthogonal()


def test_a_weight_that_the_call_does_not_use_is_left_and_said():
    model = nn.ModuleDict({"used": nn.Linear(8, 8), "idle": nn.Linear(8, 8)})
    model.forward = lambda x: model["used"](x).relu()  # a forward that holds on to the modules
    plan = fanin.plan(model, 9 * numbers(32, 8), "lsuv")
    assert "not seen" in plan["idle.weight"].reason
    assert plan["used.weight"].scheme.factor < 0.2


def test_parametrised_weights():
    parametrised = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(32, 32)),
        nn.ReLU(),
        nn.utils.parametrizations.spectral_norm(nn.Linear(32, 32)),
        nn.ReLU(),
        nn.utils.weight_norm(nn.Linear(32, 32)),
        nn.ReLU(),
        nn.utils.parametrizations.orthogonal(nn.Linear(32, 32)),
    )
    x = 4 * numbers(64, 32)
    parametrised(x)  # the older weight_norm now caches a weight that deepcopy refuses
    plan = fanin.plan(parametrised, x, "lsuv")
    fanin.apply(plan, parametrised)
    seen = list(stds(parametrised, x).values())
    assert abs(seen[0] - 1) < BAND + ROUNDING
    assert abs(seen[2] - 1) < BAND + ROUNDING
    assert "divides its scale out" in plan["2.parametrizations.weight.original"].reason
    assert "orthogonal matrices only" in plan["6.parametrizations.weight.original"].reason


def test_a_weight_whose_scale_is_divided_out_stays_as_drawn():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            w = self.weight
            w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-4)
            return nn.functional.conv2d(x, w, self.bias, padding=1)

    class Equalised(nn.Linear):
        def forward(self, x):
            return nn.functional.linear(x, self.weight * 0.1, self.bias)

    model = nn.Sequential(
        Standardised(3, 8, 3), nn.GroupNorm(2, 8), Standardised(8, 8, 3), nn.GroupNorm(2, 8),
        nn.Flatten(), Equalised(8 * 36, 8), nn.ReLU(), Equalised(8, 8),
    )  # fmt: skip
    x = 9 * numbers(16, 3, 6, 6)
    plan = fanin.plan(model, x, "lsuv")
    fanin.apply(plan, model)
    for name in ("0.weight", "2.weight"):
        assert plan[name].scheme == Orthogonal()
        assert "divides its scale out" in plan[name].reason
    seen = stds(model, x)
    assert abs(seen["5"] - 1) < BAND + ROUNDING
    assert abs(seen["7"] - 1) < BAND + ROUNDING


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN], ids=lambda kind: kind.__name__)
def test_recurrent_layers(kind):
    layer, x = kind(8, 12, batch_first=True), 5 * numbers(16, 6, 8)
    plan = fanin.plan(layer, x, LSUV(tolerance=0.02))
    fanin.apply(plan, layer)
    gates = layer.weight_ih_l0.detach().split(12)
    assert len(gates) == {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[kind]
    for gate in gates:
        assert abs(float((x @ gate.T).std(correction=0)) - 1) < 0.02 + ROUNDING
    recurrent = layer.weight_hh_l0.detach().split(12)[0]
    assert torch.allclose(recurrent @ recurrent.T, torch.eye(12), atol=1e-5)
    assert "meets its own output again" in plan["weight_hh_l0"].reason


def test_control_flow_that_changes_with_the_scale():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x):
            x = self.first(x)
            if float(x.std()) > 2:  # the run before rescaling takes this way, later ones do not
                x = torch.tanh(x) * 3.0 + 0.0
            return self.second(x)

    model, x = Gated(), 6 * numbers(64, 16)
    fanin.initialize(model, x, "lsuv")
    assert all(abs(s - 1) < BAND + ROUNDING for s in stds(model, x).values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_dtypes(dtype):
    model, x = chain(4).to(dtype), (8 * numbers(64, 32)).to(dtype)
    plan = fanin.plan(model, x, "lsuv")
    fanin.apply(plan, model)
    assert all(p.dtype == dtype for p in model.parameters())
    tolerance = BAND + 20 * torch.finfo(dtype).eps
    assert all(abs(float(o.float().std()) - 1) < tolerance for o in outputs(model, x).values())
    if dtype != torch.float64:  # measured in float32, so the plan is that of the float32 model
        wide = fanin.plan(chain(4), x.float(), "lsuv")
        assert [a.scheme for a in plan.values()] == [a.scheme for a in wide.values()]


def test_one_sample_is_enough():
    model, x = chain(4, 64), numbers(1, 64)
    fanin.initialize(model, x, "lsuv")
    assert all(abs(s - 1) < BAND + ROUNDING for s in stds(model, x).values())


def test_deep_chains_take_two_runs():
    calls = []
    model, x = chain(100, 16), numbers(32, 16)
    model[0].register_forward_hook(lambda *_: calls.append(1))
    fanin.initialize(model, x, "lsuv")
    assert all(abs(s - 1) < BAND + ROUNDING for s in stds(model, x).values())
    # Recorded for the base recipe, for the products, settled, and seen to be settled; then once
    # above.
    assert len(calls) <= 5


def test_another_base():
    model, x = chain(4), numbers(64, 32)
    plan = fanin.plan(model, x, LSUV(base=Normal(std=0.02)))
    assert plan["2.weight"].scheme.of == Normal(std=0.02)
    auto = fanin.plan(model, x, LSUV(base=fanin.plan(model, x)))
    assert auto["0.weight"].scheme.of == fanin.plan(model, x)["0.weight"].scheme
    for made in (plan, auto):
        fanin.apply(made, model)
        assert all(abs(s - 1) < BAND + ROUNDING for s in stds(model, x).values())


@pytest.mark.parametrize(
    "wrong",
    [{"tolerance": 0}, {"tolerance": float("nan")}, {"tries": 0}, {"tries": 2.5}],
    ids=str,
)
def test_wrong_settings(wrong):
    with pytest.raises(PlanError, match="LSUV: t"):
        LSUV(**wrong)


@pytest.mark.parametrize(
    "base", ["metainit", LSUV(), lambda module: None], ids=["name", "value", "f"]
)
def test_bases_that_name_no_schemes(base):
    with pytest.raises(PlanError, match="its base"):
        fanin.plan(chain(2), numbers(4, 32), LSUV(base=base))


def test_bad_batches():
    model, x = chain(2), numbers(8, 32)
    x[3, 3] = float("nan")
    with pytest.raises(DataError, match="NaN"):
        fanin.plan(model, x, "lsuv")
    with pytest.raises(RecordError, match="raised"):
        fanin.plan(model, numbers(8, 31), "lsuv")
    x = 1e4 * numbers(8, 4)
    with pytest.raises(RecordError, match=r"'2\.weight' is not finite"):
        fanin.plan(nn.Sequential(nn.Linear(4, 4), Exponential(), nn.Linear(4, 4)), x, "lsuv")
