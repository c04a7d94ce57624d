"""auto: the choice for each context, by formula, and what it keeps."""

import math

import pytest
import torch
from torch import nn

import fanin
from fanin.graph.role import Activation, ParameterRole, Role
from fanin.planning import Action, Circumstances, Subject
from fanin.planning.auto import decide
from fanin.schemes import Kaiming, LeCun, Ones, Orthogonal, Xavier, Zeros


def stack(activation):
    return nn.Sequential(
        nn.Linear(64, 64), activation, nn.Linear(64, 64), activation, nn.Linear(64, 10)
    )


@pytest.mark.parametrize(
    ("activation", "std"),
    [
        # 1/√(64 E[φ²]), E[φ²] by hand or from tables of Gaussian integrals.
        (nn.ReLU(), math.sqrt(2 / 64)),
        (nn.LeakyReLU(0.2), math.sqrt(2 / 1.04 / 64)),
        (nn.GELU(), 1.5335 / 8),
        (nn.SiLU(), 1.6765 / 8),
        (nn.ELU(), 1.2452 / 8),
        (nn.Tanh(), math.sqrt(2 / 128)),
        (nn.SELU(), 1 / 8),
        (nn.Identity(), 1 / 8),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_a_plain_stack_by_its_activation(activation, std):
    plan = fanin.plan(stack(activation), torch.randn(4, 64))
    assert plan["0.weight"].std == pytest.approx(std, rel=1e-4)
    assert plan["2.weight"].std == pytest.approx(std, rel=1e-4)
    assert plan["4.weight"].std < 0.4 / 8
    assert plan["0.bias"].scheme == Zeros()


def test_functional_activations_are_read_off_the_graph():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.c(torch.tanh(self.b(torch.relu(self.a(x)))))

    plan = fanin.plan(Functional(), torch.randn(2, 8))
    assert plan["a.weight"].scheme == Kaiming()
    assert plan["b.weight"].scheme == Xavier()
    assert "relu" in plan["a.weight"].reason
    assert any("gain" in fact for fact in plan["a.weight"].evidence)


def test_true_fans_of_grouped_and_transposed_convolutions():
    net = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(4, 1, 1),
    )
    plan = fanin.plan(net, torch.randn(2, 8, 8, 8))
    assert plan["0.weight"].std == pytest.approx(math.sqrt(2 / 9))
    # Each output of a k4 s2 transposed convolution sums 8 · 16/4 inputs.
    assert plan["2.weight"].std == pytest.approx(math.sqrt(2 / 32))
    assert any("8 groups" in fact for fact in plan["0.weight"].evidence)


def test_recurrent_layers():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.gru = nn.LSTM(6, 8, batch_first=True), nn.GRU(8, 8, batch_first=True)

        def forward(self, x):
            return self.gru(self.lstm(x)[0])[0]

    model = Net()
    plan = fanin.plan(model, torch.randn(2, 5, 6))
    fanin.apply(plan, model, seed=2)
    for name in ("lstm.weight_hh_l0", "gru.weight_hh_l0"):
        assert plan[name].scheme == Orthogonal()
        for gate in model.get_parameter(name).split(8):
            assert torch.allclose(gate @ gate.T, torch.eye(8), atol=1e-5)
    assert plan["lstm.weight_ih_l0"].std == pytest.approx(math.sqrt(2 / 14))  # per gate: 6 -> 8
    total = model.lstm.bias_ih_l0 + model.lstm.bias_hh_l0
    assert total.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16  # i, f, g, o: one bias of two
    assert plan["lstm.bias_hh_l0"].scheme == Zeros()
    assert plan["gru.bias_ih_l0"].scheme == Zeros()


class PreNorm(nn.Module):
    def __init__(self, layers=3, width=16, scale=None):
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.inner = nn.ModuleList(nn.Linear(width, 32) for _ in range(layers))
        self.outer = nn.ModuleList(nn.Linear(32, width) for _ in range(layers))
        self.scale = scale if scale is None else nn.Parameter(torch.full((layers, width), scale))
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        x = self.stem(x)
        for i, (norm, a, b) in enumerate(zip(self.norms, self.inner, self.outer, strict=True)):
            branch = b(nn.functional.gelu(a(norm(x))))
            x = x + (branch if self.scale is None else self.scale[i] * branch)
        return self.head(x)


def test_pre_norm_writers_are_scaled_by_the_number_of_branches():
    plan = fanin.plan(PreNorm(3), torch.randn(2, 4, 16))
    # SmallInit: the variance 2/(5d) that Xavier gives a matrix of d inputs and 4d outputs.
    assert plan["inner.0.weight"].std == pytest.approx(math.sqrt(2 / (16 + 64)))
    assert plan["outer.0.weight"].std == pytest.approx(math.sqrt(1 / (0.4252 * 32 * 3)), rel=1e-3)
    assert "3" in plan["outer.0.weight"].reason


def test_the_stream_keeps_its_size_at_any_depth():
    x = torch.randn(8, 16, 16, generator=torch.Generator().manual_seed(0))
    for layers in (2, 24):
        model = PreNorm(layers)
        fanin.initialize(model, x)
        streams = []
        model.head.register_forward_pre_hook(lambda m, a: streams.append(a[0]))  # noqa: B023
        model(x)
        # Branches of total variance 1 on a stream of variance 1, whatever their number.
        assert 0.8 < float(streams[0].detach().std()) < 2.2


def test_what_a_constructor_set_on_purpose_stays():
    model = PreNorm(2, scale=1e-6)
    nn.init.zeros_(model.outer[0].weight)
    nn.init.constant_(model.norms[1].weight, 0.5)
    nn.init.constant_(model.head.bias, -4.6)
    plan = fanin.plan(model, torch.randn(2, 4, 16))
    assert plan["outer.0.weight"].action is Action.LEAVE
    assert "zeros stay" in plan["outer.0.weight"].reason
    assert plan["norms.1.weight"].action is Action.LEAVE
    assert "0.5 stays" in plan["norms.1.weight"].reason
    assert plan["head.bias"].action is Action.LEAVE
    assert "-4.6 stays" in plan["head.bias"].reason
    assert plan["scale"].action is Action.LEAVE
    assert "1e-06" in plan["scale"].reason
    assert plan["norms.0.weight"].scheme == Ones()
    assert plan["outer.1.weight"].action is Action.INITIALISE


def test_a_blanked_model_shows_no_intent_and_is_brought_to_life():
    model = PreNorm(2)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    plan = fanin.plan(model, torch.randn(2, 4, 16))
    assert {a.action for a in plan.values()} == {Action.INITIALISE}
    assert plan["norms.0.weight"].scheme == Ones()


def by_hand(role, shape=(8, 8), before=None, activation=None, **facts):
    names = {"kind": "linear", "residual_branches": 0, "block_names": (), "norm_after": False}
    of_role = {key: facts.pop(key, value) for key, value in names.items()}
    read = ParameterRole(
        "block.0.w.weight",
        role,
        axes=facts.pop("axes", fanin.axes.dense_axes(shape)),
        activation=activation and Activation(activation),
        before=before and Activation(before),
        **of_role,
    )
    subject = Subject(
        "block.0.w.weight", shape, "float32", read, "block.0.w", "weight", "Linear", **facts
    )
    return decide(subject, Circumstances("Net", {subject.name: subject}))


def test_gated_mlp_router_adapter_and_experts():
    down = by_hand(Role.DOWN_PROJECTION, before="silu", residual_branches=8)
    assert down.scheme.scale == pytest.approx(1 / 0.3558 / 8, rel=1e-3)
    assert by_hand(Role.GATE_PROJECTION).scheme == LeCun()
    assert by_hand(Role.ROUTER).scheme.scale == pytest.approx(0.01)
    assert by_hand(Role.ADAPTER_UP).scheme == Zeros()
    experts = fanin.Axes(outputs=1, inputs=2, batch=0)
    decided = by_hand(Role.UP_PROJECTION, (4, 8, 16), axes=experts)
    assert decided.scheme.expected((4, 8, 16), experts).std == pytest.approx(1 / 4)


def test_embeddings():
    tied = by_hand(Role.TIED_HEAD, (100, 64))
    assert tied.scheme.std == pytest.approx(1 / 8)
    table = fanin.Axes(outputs=1, batch=0)
    assert by_hand(Role.EMBEDDING, (100, 64), axes=table).scheme.std == 1.0
    kept = by_hand(Role.POSITION_TABLE, (1, 9, 64), axes=fanin.Axes((0, 1, 2)))
    assert kept.scheme is None
    assert "constructor" in kept.reason


def test_sine_layers_are_left_to_their_author():
    assert by_hand(Role.WEIGHT, activation="sin").scheme is None
    assert by_hand(Role.WEIGHT, activation="sin", on_meta=True).scheme is not None


@pytest.mark.parametrize(("factor", "std"), [(None, 1 / 8), (64**-0.5, 1.0), (0.5, 1 / 4)])
def test_a_tied_table_leaves_to_the_model_what_the_model_does_itself(factor, std):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(50, 64)
            self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 50, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids):
            x = self.norm(self.table(ids))
            return self.head(x if factor is None else x * factor)

    model, ids = Tied(), torch.arange(40).reshape(2, 20)
    plan = fanin.plan(model, ids)
    assert plan["table.weight"].std == pytest.approx(std)
    fanin.apply(plan, model, seed=1)
    stream = torch.randn(200, 64, generator=torch.Generator().manual_seed(0)) * (factor or 1)
    # Rows of the table differ in length by √(2/64) of it: 50 of them, to four standard errors.
    assert model.head(stream).detach().std() == pytest.approx(1, abs=4 * (1 / 64 / 50) ** 0.5)


@pytest.mark.parametrize("stream", [False, True], ids=["norm alone", "norm and stream"])
def test_a_table_that_a_norm_alone_reads_is_as_quick_as_a_matrix(stream):
    class Tables(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(50, 64), nn.Embedding(20, 64)
            self.norm, self.inner = nn.LayerNorm(64), nn.Linear(64, 64)
            self.head = nn.Linear(64, 3)

        def forward(self, ids):
            x = self.words(ids) + self.places(torch.arange(20))
            y = self.inner(self.norm(x))
            return self.head(x + y if stream else y)

    plan = fanin.plan(Tables(), torch.arange(40).reshape(2, 20))
    std = 1.0 if stream else 1 / 8
    assert plan["words.weight"].std == pytest.approx(std)
    assert plan["places.weight"].std == pytest.approx(std)
    assert ("its size does not show" in plan["words.weight"].reason) is not stream


def test_tables_side_by_side_are_as_large_as_what_is_added_to_them():
    class Hashes(nn.Module):
        def __init__(self):
            super().__init__()
            self.hashes = nn.ModuleList(nn.Embedding(50, 16) for _ in range(4))
            self.places, self.norm = nn.Embedding(20, 64), nn.LayerNorm(64)
            self.head = nn.Linear(64, 3)

        def forward(self, ids):
            x = torch.cat([table(ids) for table in self.hashes], -1)
            return self.head(self.norm(x + self.places(torch.arange(20))))

    plan = fanin.plan(Hashes(), torch.arange(40).reshape(2, 20))
    names = [*(f"hashes.{i}.weight" for i in range(4)), "places.weight"]
    # The norm reads rows of 64 numbers, whatever a table holds of them.
    assert [plan[name].std for name in names] == [pytest.approx(1 / 8)] * 5


@pytest.mark.parametrize("rate", [True, False], ids=["time step", "activation"])
def test_the_time_steps_of_a_state_space_are_its_author_s(rate):
    class StateSpace(nn.Module):
        def __init__(self):
            super().__init__()
            self.step, self.out = nn.Linear(8, 8), nn.Linear(8, 3)
            self.decay = nn.Parameter(torch.rand(8))

        def forward(self, x):
            step, state = nn.functional.softplus(self.step(x)), torch.zeros(x.shape[0], 8)
            if not rate:
                return self.out(step[:, -1])
            for t in range(x.shape[1]):
                state = torch.exp(-self.decay * step[:, t]) * state + step[:, t] * x[:, t]
            return self.out(state)

    plan = fanin.plan(StateSpace(), torch.randn(4, 5, 8))
    assert (plan["step.bias"].action is Action.LEAVE) is rate
    assert ("time steps" in plan["step.bias"].reason) is rate
    assert plan["out.bias"].scheme == Zeros()


def test_the_phase_of_a_sine_is_its_author_s():
    class Siren(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 16), nn.Linear(16, 1)

        def forward(self, x):
            return self.b(torch.sin(30 * self.a(x)))

    model = Siren()
    plan = fanin.plan(model, torch.randn(8, 2))
    assert plan["a.bias"].action is Action.LEAVE
    assert "phase" in plan["a.bias"].reason
    assert plan["b.bias"].scheme == Zeros()
    nn.init.zeros_(model.a.bias)
    assert fanin.plan(model, torch.randn(8, 2))["a.bias"].scheme == Zeros()


def test_an_activation_without_a_known_gain_is_said_so():
    decided = by_hand(Role.WEIGHT, activation="nobody_knows")
    assert decided.scheme == LeCun()
    assert "not known" in decided.evidence[0]


def test_parameters_that_the_call_did_not_use_are_read_off_their_module():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return torch.relu(self.used(x))

    plan = fanin.plan(Branches(), torch.randn(1, 4))
    assert plan["unused.weight"].action is Action.INITIALISE
    assert any("not used" in fact for fact in plan["unused.weight"].evidence)


def test_meta_models_are_planned_as_real_ones():
    x = torch.randn(2, 4, 16)
    real = fanin.plan(PreNorm(2), x)
    with torch.device("meta"):
        on_meta = PreNorm(2)
    assert not fanin.plan(on_meta, x.to("meta")).diff(real)
