"""Loops over one matrix, against Monte Carlo of whole cells written out beside them.

The truth is the same cell run in float64 on many draws of its weights at once, with derivatives by
torch.  A power that varies from draw to draw by a factor c has a relative error c/√N of its mean
over N draws; both sides are draws, and tolerances are four standard errors of the difference, of
which the prediction's runs are the greater part.
"""

import math

import pytest
import torch
from building_blocks import Module, batch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.propagation import drawing, recurrences
from fanin.propagation.recurrences import MOST_RUNS, find_recurrences
from fanin.propagation.weight_draws import WeightDraws
from fanin.schemes import SCHEMES

TRUTHS = 1000


def steady(*shape):
    """A batch whose every step has the mean square 1: only moments of all steps are used."""
    x = batch(*shape)
    return x / x.square().mean((0, 2), keepdim=True).sqrt()


def in_order(signals, *names):
    """Signals of these operations, in order of running."""
    return [s for _, s in sorted(signals.tensors.items()) if s.operation in names]


def means_over_draws(model, x, plan, seeds, *names):
    """Mean squares of signals and gradients, and their relative spread from draw to draw."""
    rows = []
    for seed in range(seeds):
        fanin.apply(plan, model, seed=seed)
        found = in_order(fanin.measure(model, x), *names)
        rows.append([(s.rms**2, s.gradient_rms**2) for s in found])
    squares = torch.tensor(rows, dtype=torch.float64)
    mean, spread = squares.mean(0), squares.std(0)
    return [(s.rms**2, s.gradient_rms**2) for s in in_order(fanin.predict(model, x, plan), *names)
            ], mean.tolist(), (spread / mean).nan_to_num().tolist()  # fmt: skip


class Cells(nn.Module):
    """A cell unrolled by hand over the steps of x, and a readout of the last state."""

    def __init__(self, kind: str, inputs: int, width: int) -> None:
        super().__init__()
        gates = {"tanh": 1, "relu": 1, "gru": 3, "lstm": 4}[kind]
        self.kind = kind
        self.into = nn.Linear(inputs, gates * width, bias=False)
        self.state = nn.Linear(width, gates * width, bias=False)
        self.out = nn.Linear(width, 3 * width, bias=False)

    def forward(self, x):
        weights = [layer.weight.t() for layer in (self.into, self.state, self.out)]
        return unrolled(self.kind, x, *weights)[-1]


def unrolled(kind, x, into, state, out):
    """The tensors named h of every step, and the output; leading axes of weights are draws."""
    h = c = x.new_zeros(*x.shape[:-2], state.shape[-2])
    states = []
    for t in range(x.shape[-2]):
        a, b = x[..., t, :] @ into, h @ state
        if kind in ("tanh", "relu"):
            h = torch.tanh(a + b) if kind == "tanh" else F.relu(a + b)
        elif kind == "gru":
            (r, z, n), (s, y, m) = a.chunk(3, -1), b.chunk(3, -1)
            z = torch.sigmoid(z + y)
            h = z * h + (1 - z) * torch.tanh(n + torch.sigmoid(r + s) * m)
        else:
            i, f, g, o = (a + b).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        states.append(h)
    return [*states, h @ out]


def weights_of(model, scheme, draws):
    """Draws of all weights, transposed; the recurrent matrix of all gates is one tall matrix."""
    found = []
    for name, p in model.named_parameters():
        drawn = torch.empty(draws, *p.shape, dtype=torch.float64)
        n = p.shape[1]
        if name == "state.weight" and scheme == "orthogonal":
            for part in drawn:
                nn.init.orthogonal_(part)
        else:
            drawn.normal_(std=n**-0.5)
        found.append(drawn.transpose(1, 2))
    return found


def powers(values):
    """Mean square of every draw."""
    return values.detach().flatten(1).square().mean(1)


def truth_of(model, scheme, shape):
    """Mean squares of states and of their gradients, and the relative spread from draw to draw."""
    into, state, out = (w.unsqueeze(1) if w.dim() == 2 else w for w in weights_of(
        model, scheme, TRUTHS))  # fmt: skip
    x = torch.randn(TRUTHS, *shape, dtype=torch.float64, requires_grad=True)
    *states, last = unrolled(model.kind, x, into, state, out)
    for h in states:
        h.retain_grad()
    last.backward(torch.randn_like(last))
    rows = [(powers(h), powers(h.grad)) for h in states]
    return [[(float(v.mean()), float(v.std() / v.mean())) for v in row] for row in rows]


def plan_of(model, x, scheme):
    overrides = {"*.weight": "lecun_normal"}
    if scheme == "orthogonal":
        overrides["state.weight"] = "orthogonal"
    return fanin.plan(model, x, "torch", overrides=overrides)


@pytest.mark.parametrize("scheme", ["orthogonal", "gaussian"])
@pytest.mark.parametrize(
    ("kind", "width", "steps"),
    [("tanh", 10, 9), ("tanh", 40, 5), ("relu", 6, 7), ("gru", 7, 11), ("lstm", 9, 8)],
)
def test_states_and_their_gradients(kind, width, steps, scheme):
    torch.manual_seed(2)
    model = Cells(kind, 20, width)
    shape = (16, steps, 20)
    x = steady(*shape)
    truth = truth_of(model, scheme, shape)
    plan = plan_of(model, x, scheme)
    signals = fanin.predict(model, x, plan)
    # h is what the next product with the matrix reads: its first factor, or the last of all.
    graph = fanin.record(model, x)
    products = [op for op in graph.operations if op.name == "mm"
                and "state.weight" in graph.tensors[op.inputs[1]].of_parameters]  # fmt: skip
    read = [op.inputs[0] for op in products[1:]] + [graph.operations[-1].inputs[0]]
    assert len(read) == len(truth)
    for step, (tensor, row) in enumerate(zip(read, truth, strict=True)):
        signal = signals.tensors[tensor]
        assert signal.sampled
        for what, found, (power, spread) in zip(
            ("state", "gradient"), (signal.rms, signal.gradient_rms), row, strict=True
        ):
            error = 4 * spread * (1 / MOST_RUNS + 1 / TRUTHS) ** 0.5 + 0.03
            assert found**2 == pytest.approx(power, rel=error), f"{what} {step}"


def test_an_orthogonal_loop_keeps_every_state_and_gradient_as_long_as_it_was():
    def run(m, x):
        h = m.first(x)
        for _ in range(12):
            h = m.again(h)
        return h

    model = Module(run, first=nn.Linear(16, 8, bias=False), again=nn.Linear(8, 8, bias=False))
    x = batch(64, 16)
    plan = fanin.plan(model, x, "torch", overrides={"again.weight": "orthogonal",
                                                    "first.weight": "lecun_normal"})  # fmt: skip
    signals = fanin.predict(model, x, plan)
    loop = [s for s in signals.tensors.values() if s.operation == "mm" and s.sampled]
    assert len(loop) == 12
    assert [s.rms for s in loop] == pytest.approx([loop[0].rms] * 12, rel=1e-5)
    gradients = [s.gradient_rms for s in loop[:-1]]  # the last is given, not drawn
    assert gradients == pytest.approx([gradients[0]] * 11, rel=1e-5)
    assert gradients[0] == pytest.approx(loop[-1].gradient_rms, rel=0.02)


def test_a_vector_of_decays_meets_itself():
    """E u²ᵏ = a²ᵏ/(2k + 1) of uniform numbers, where strangers would give (a²/3)ᵏ."""
    steps, width = 5, 400

    def run(m, x):
        h = m.first(x)
        for _ in range(steps):
            h = h * m.decay
        return h

    model = Module(run, first=nn.Linear(32, width, bias=False),
                   decay=nn.Parameter(torch.empty(width).uniform_(-1, 1)))  # fmt: skip
    plan = fanin.plan(model, batch(16, 32), "torch", overrides={
        "decay": SCHEMES["uniform_1"], "first.weight": "lecun_normal"})  # fmt: skip
    signals = fanin.predict(model, batch(16, 32), plan)
    loop = [s.rms for s in signals.tensors.values() if s.operation == "mul"]
    # Weights of 400 units and 128 runs: a relative error of the power below 3/√(128 · 400).
    for k, rms in enumerate(loop, start=1):
        assert rms == pytest.approx((2 * k + 1) ** -0.5, rel=0.03), k


def test_the_second_layer_reads_the_states_of_the_first():
    """States change slowly: the second layer must see steps in order, not any two alike."""
    torch.manual_seed(0)
    model, x = nn.GRU(8, 6, num_layers=2, batch_first=True), steady(32, 7, 8)
    plan = fanin.plan(model, x, "xavier_normal")
    rows = means_over_draws(model, x, plan, 16, "sub")
    assert len(rows[0]) == 14
    for predicted, truth, spread in zip(*rows, strict=True):
        for value, mean, share in zip(predicted, truth, spread, strict=True):
            # 32 · 8 numbers of x a step, 32 · 6 of the one direction measured: √(2/192) of a power.
            error = 4 * share * (1 / 16 + 1 / MOST_RUNS) ** 0.5 + 0.2
            assert value == pytest.approx(mean, rel=error)


def test_an_lstm_that_runs_as_one_operation_draws_its_blocks_as_planned():
    torch.manual_seed(0)
    model, x = nn.LSTM(6, 14, batch_first=True), batch(32, 10, 6)
    plan = fanin.plan(model, x, "auto")
    predicted = [s for s in fanin.predict(model, x, plan).tensors.values()
                 if s.operation == "mkldnn_rnn_layer"]  # fmt: skip
    if not predicted:
        pytest.skip("this torch runs an LSTM in parts")
    squares = []
    for seed in range(60):
        fanin.apply(plan, model, seed=seed)
        with torch.no_grad():
            squares.append(float(model(x)[0].square().mean()))
    truth = torch.tensor(squares)
    error = 4 * float(truth.std() / truth.mean()) * (1 / 60 + 1 / MOST_RUNS) ** 0.5
    assert predicted[0].rms ** 2 == pytest.approx(float(truth.mean()), rel=error)


def test_a_wide_lstm_is_run_and_not_guessed(monkeypatch):
    """Its weights alone are more numbers than an operation outside of loops may read."""
    model, x = nn.LSTM(16, 40, batch_first=True), batch(8, 5, 16)
    plan = fanin.plan(model, x, "torch")
    small = fanin.predict(model, x, plan)
    monkeypatch.setattr(drawing, "MOST_SAMPLED", 1000)
    found = fanin.predict(model, x, plan)
    assert not any("guess" in note for note in found.notes)
    rms = [[s.rms for s in p.tensors.values() if s.operation == "mkldnn_rnn_layer"]
           for p in (small, found)]  # fmt: skip
    assert rms[0] == rms[1]


def repeated(times, width=24):
    """A residual block with a norm, run again and again with the same weights."""

    def run(m, x):
        h = m.first(x)
        for _ in range(times):
            h = h + m.block(m.norm(h))
        return m.head(h)

    return Module(run, first=nn.Linear(12, width), norm=nn.LayerNorm(width),
                  block=nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width)),
                  head=nn.Linear(width, 5))  # fmt: skip


def found_in(model, x):
    graph = fanin.record(model, x)
    scales = {t for t, info in graph.tensors.items() if info.name.endswith("norm.weight")}
    return find_recurrences(graph, scales)


def test_a_block_run_three_times_is_a_loop_and_twice_is_none():
    assert not found_in(repeated(2), batch(4, 12)).loops
    found = found_in(repeated(3), batch(4, 12))
    assert set(found.matrices) == {"block.0.weight", "block.2.weight"}
    assert found.runs == MOST_RUNS


def test_what_is_read_often_but_in_no_chain_is_no_loop():
    def heads(m, x):
        h = m.first(x)
        return sum(m.head(torch.tanh(part)) for part in h.chunk(6, -1))

    assert not found_in(
        Module(heads, first=nn.Linear(12, 48), head=nn.Linear(8, 5)), batch(4, 12)
    ).loops

    def tied(m, ids):
        h = m.table(ids)
        for layer in m.layers:
            h = h + layer(h) + m.places  # one table of positions, added in every layer
        return F.linear(h, m.table.weight)

    layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(5))
    model = Module(tied, table=nn.Embedding(30, 8), layers=layers,
                   places=nn.Parameter(torch.randn(6, 8)))  # fmt: skip
    assert not found_in(model, torch.randint(30, (4, 6))).loops

    def modulated(m, x):
        scale, gate, scale2, gate2 = m.modulation(x).chunk(4, -1)
        h = m.first(x)
        h = h + gate * m.a(h * (1 + scale))
        return h + gate2 * m.b(h * (1 + scale2))

    parts = {name: nn.Linear(8, 8) for name in ("first", "a", "b")}
    assert not found_in(Module(modulated, modulation=nn.Linear(8, 32), **parts), batch(4, 8)).loops


def scan(m, x):
    """A selective scan: decay, input and read-out of each step are made of the same numbers."""
    u = F.silu(m.first(x))
    step = F.softplus(m.step(u))
    decay, driven = torch.exp(-step), step * m.gate(u) * u
    h, seen = torch.zeros_like(u[:, 0]), []
    for t in range(x.shape[1]):
        h = decay[:, t] * h + driven[:, t]
        seen.append(h)
    return m.out(torch.stack(seen, 1))


def scanning(n=20):
    return Module(scan, first=nn.Linear(10, n), step=nn.Linear(n, n), gate=nn.Linear(n, n),
                  out=nn.Linear(n, n))  # fmt: skip


def test_a_selective_scan_is_run_from_what_its_gates_have_in_common():
    torch.manual_seed(0)
    model, x = scanning(), steady(16, 7, 10)
    plan = fanin.plan(model, x, "xavier_normal")
    names = ("add", "mul", "exp", "stack", "softplus", "silu")
    signals = in_order(fanin.predict(model, x, plan), *names)
    assert sum(s.sampled for s in signals) == 17
    for predicted, truth, spread in zip(*means_over_draws(model, x, plan, 40, *names), strict=True):
        for value, mean, share in zip(predicted, truth, spread, strict=True):
            error = 4 * share * (1 / 40 + 1 / MOST_RUNS) ** 0.5 + 0.08
            assert value == pytest.approx(mean, rel=error)


def test_a_loop_too_large_to_run_says_so_and_is_predicted_by_rules(monkeypatch):
    model, x = repeated(4), batch(4, 12)
    assert any("loops over" in note for note in fanin.predict(model, x).notes)
    monkeypatch.setattr(recurrences, "MOST_NUMBERS", 1000)
    monkeypatch.setattr(recurrences, "MOST_AT_ONCE", 1000)
    signals = fanin.predict(model, x)
    assert not any(s.sampled for s in signals.tensors.values())
    (note,) = signals.notes
    assert "too many to sample" in note
    assert "block.0.weight" in note


@pytest.mark.parametrize("shape", [(1, 6, 5), (4, 1, 5), (1, 5, 5)])
def test_batches_and_sequences_of_one(shape):
    signals = fanin.predict(nn.GRU(5, 6, batch_first=True), torch.ones(shape))
    assert all(s.rms is not None and math.isfinite(s.rms) for s in signals.tensors.values())


def test_runs_shrink_with_the_loop_and_one_is_enough_for_wide_tensors(monkeypatch):
    graph = fanin.record(repeated(4), batch(4, 12))
    whole = find_recurrences(graph, ())
    for allowed, runs in ((whole.numbers * 10, 10), (whole.numbers // 2, 1)):
        monkeypatch.setattr(recurrences, "MOST_NUMBERS", allowed)
        assert find_recurrences(graph, ()).runs == runs


def test_weights_that_stand_there_are_the_ones_that_are_met():
    model = repeated(5)
    nn.init.zeros_(model.block[2].weight)
    nn.init.zeros_(model.block[2].bias)
    with torch.no_grad():
        model.block[2].weight[0] = 1.0
    x = batch(64, 12)
    predicted, found = fanin.predict(model, x).tensors, fanin.measure(model, x).tensors
    loop = [t for t, s in predicted.items() if s.operation == "add" and s.sampled]
    assert len(loop) == 5
    for tensor in loop:
        assert predicted[tensor].rms == pytest.approx(found[tensor].rms, rel=0.1)


def test_a_frozen_matrix_meets_itself_too():
    model, x = nn.RNN(5, 6, batch_first=True), steady(64, 8, 5)
    model.requires_grad_(False)
    nn.init.eye_(model.weight_hh_l0)  # adds up what a stranger would mix
    plan = fanin.plan(model, x, "auto")
    predicted, found = (in_order(s, "tanh") for s in (
        fanin.predict(model, x, plan), fanin.measure(model, x)))  # fmt: skip
    for one, other in zip(predicted, found, strict=True):
        assert one.sampled
        assert one.rms == pytest.approx(other.rms, rel=0.1)


def test_dropout_between_layers_is_drawn_in_every_run():
    model, x = nn.RNN(5, 6, 2, batch_first=True, dropout=0.3).train(), batch(4, 5, 5)
    notes = fanin.predict(model, x, fanin.plan(model, x, "auto")).notes
    assert len(notes) == 1


def test_draws_are_the_same_every_time_and_never_those_of_apply():
    model, x = repeated(3), batch(4, 12)
    plan = fanin.plan(model, x, "auto")
    ids = {name: k for k, (name, _) in enumerate(model.named_parameters())}
    one, two = (WeightDraws(model, ids, plan).drawn(ids["block.0.weight"], 3) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one[0], one[1])
    for seed in range(3):
        fanin.apply(plan, model, seed=seed)
        assert not any(torch.allclose(draw, model.block[0].weight) for draw in one)
    assert WeightDraws(model, ids, plan).drawn(ids["block.0.weight"], 3, most=1000) is None


def test_a_model_on_meta_is_predicted_like_the_real_one():
    model, x = Cells("tanh", 12, 8), batch(16, 6, 12)
    plan = plan_of(model, x, "orthogonal")
    real = fanin.predict(model, torch.zeros(16, 6, 12).normal_(), plan)
    meta = fanin.predict(model.to("meta"), x.to("meta"), plan)
    for tensor, signal in meta.tensors.items():
        if signal.operation == "tanh":
            assert signal.sampled
            assert signal.rms == pytest.approx(real.tensors[tensor].rms, rel=0.1)
            assert math.isfinite(signal.gradient_rms)


def in_chunks(m, x):
    """Linear attention with decays, all steps at once: exponentials of differences of sums."""
    u = m.first(x)
    q, k, v = (part(u) for part in (m.q, m.k, m.v))
    sums = -F.softplus(m.decay(u)).cumsum(1)
    between = (sums[:, :, None] - sums[:, None]).squeeze(-1)
    seen = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
    weights = between.masked_fill(seen, float("-inf")).exp()
    return m.out((q @ k.transpose(1, 2) * weights) @ v)


def test_linear_attention_in_chunks_subtracts_sums_of_one_tensor():
    torch.manual_seed(0)
    names = {"q": 12, "k": 12, "v": 14, "decay": 1}
    model = Module(in_chunks, first=nn.Linear(18, 22), out=nn.Linear(14, 14),
                   **{name: nn.Linear(22, n) for name, n in names.items()})  # fmt: skip
    x = steady(12, 9, 18)
    plan = fanin.plan(model, x, "xavier_normal")
    rows = means_over_draws(model, x, plan, 40, "sub", "exp", "bmm", "cumsum", "softplus")
    assert len(rows[0]) == 6
    for predicted, truth, spread in zip(*rows, strict=True):
        for value, mean, share in zip(predicted, truth, spread, strict=True):
            error = 4 * share * (1 / 40 + 1 / MOST_RUNS) ** 0.5 + 0.1
            assert value == pytest.approx(mean, rel=error)


def test_a_running_sum_that_is_raised_nowhere_begins_nothing():
    def run(m, x):
        return m.b(torch.tanh(m.a(x)).cumsum(1))

    model = Module(run, a=nn.Linear(6, 6), b=nn.Linear(6, 6))
    assert not found_in(model, batch(4, 5, 6)).loops


def written_step_by_step(m, x):
    """States are written into memory one by one, as models that keep a cache do."""
    u = m.first(x)
    seen, h = torch.zeros_like(u), torch.zeros_like(u[:, 0])
    for t in range(x.shape[1]):
        h = torch.sigmoid(u[:, t]) * h + u[:, t]
        seen[:, t] = h
    return m.out(seen)


def test_states_written_into_memory_are_read_from_it():
    torch.manual_seed(0)
    model = Module(written_step_by_step, first=nn.Linear(9, 16), out=nn.Linear(16, 16))
    x = steady(24, 6, 9)
    plan = fanin.plan(model, x, "xavier_normal")
    rows = means_over_draws(model, x, plan, 24, "add", "sigmoid", "updated")
    assert len(rows[0]) > 12
    for predicted, truth, spread in zip(*rows, strict=True):
        for value, mean, share in zip(predicted, truth, spread, strict=True):
            error = 4 * share * (1 / 24 + 1 / MOST_RUNS) ** 0.5 + 0.1
            assert value == pytest.approx(mean, rel=error)
