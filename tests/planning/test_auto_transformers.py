"""auto on transformers: post-norm, the size of attention's logits, tables, rates."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.graph.roles import read_roles
from fanin.planning import Action
from fanin.schemes import Blockwise, LeCun, Normal

WIDTH = 16
SMALL = math.sqrt(0.4)
"""SmallInit's std beside 1/√fan_in."""


def encoder(layers, *, norm_first=False, **settings):
    layer = nn.TransformerEncoderLayer(
        WIDTH, 2, 32, batch_first=True, dropout=0.0, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, layers, **{"enable_nested_tensor": False, **settings})


class RMSByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Layer(nn.Module):
    """One head of attention and an MLP; what differs from case to case is an argument."""

    def __init__(self, order="post", scale=None, norm=None, gated=False, qk_norm=False):
        super().__init__()
        norm = norm or (lambda: nn.LayerNorm(WIDTH))
        self.order, self.scale = order, scale
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm1, self.norm2 = norm(), norm()
        self.fc1, self.fc2 = nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)
        self.gate = nn.Linear(WIDTH, 32) if gated else None
        self.of_q, self.of_k = (norm(), norm()) if qk_norm else (nn.Identity(), nn.Identity())

    def attend(self, x):
        q, k, v = self.of_q(self.q(x)), self.of_k(self.k(x)), self.v(x)
        return self.o(self.scores(q, k).softmax(-1) @ v)

    def scores(self, q, k):
        product = q @ k.transpose(-1, -2)
        return product if self.scale is None else self.scale(product)

    def mlp(self, x):
        if self.gate is None:
            return self.fc2(F.gelu(self.fc1(x)))
        return self.fc2(F.silu(self.gate(x)) * self.fc1(x))

    def forward(self, x):
        if self.order == "post":
            x = self.norm1(x + self.attend(x))
            return self.norm2(x + self.mlp(x))
        if self.order == "sandwich":
            x = x + self.norm1(self.attend(x))
            return x + self.norm2(self.mlp(x))
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def layers(count=3, **settings):
    return nn.Sequential(*(Layer(**settings) for _ in range(count)), nn.Linear(WIDTH, 5))


SIGNAL = torch.randn(4, 12, WIDTH, generator=torch.Generator().manual_seed(0))


def test_post_norm_starts_as_deepnorm_by_weights_alone():
    model = encoder(4)
    plan = fanin.plan(model, SIGNAL)
    # M = 4: o × (8M)^(−¼)(2M)^(−¼) = 32^(−¼) 8^(−¼) = 1/4.
    assert plan["layers.0.self_attn.out_proj.weight"].std == pytest.approx(1 / 4 / 4)
    assert plan["layers.3.linear1.weight"].std == pytest.approx(32**-0.25 / 4)
    packed = plan["layers.0.self_attn.in_proj_weight"].scheme
    assert isinstance(packed, Blockwise)
    assert packed.schemes[:2] == (LeCun(), LeCun())
    assert packed.schemes[2].scale == pytest.approx(32**-0.5)


def test_torchs_layers_start_as_copies_and_leave_auto_different():
    model = encoder(3)
    assert torch.equal(model.layers[0].linear1.weight, model.layers[2].linear1.weight)
    fanin.initialize(model, SIGNAL)
    states = [layer.state_dict() for layer in model.layers]
    for name in ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight"):
        assert not torch.equal(states[0][name], states[1][name])
        assert not torch.equal(states[1][name], states[2][name])


@pytest.mark.parametrize("way", ["training", "eval", "no grad", "mask", "padded", "meta"])
def test_torchs_encoder_is_read_the_same_however_it_runs(way):
    """Its fast path is one fused operation; attention without it is functional."""
    reference = fanin.plan(encoder(3), SIGNAL)
    model, inputs = encoder(3, enable_nested_tensor=way == "padded"), SIGNAL
    model.train(way == "training")
    if way == "mask":
        mask = nn.Transformer.generate_square_subsequent_mask(12)
        inputs = {"src": SIGNAL, "mask": mask, "is_causal": True}
    if way == "padded":
        padding = torch.zeros(4, 12, dtype=torch.bool)
        padding[1, 9:] = True
        inputs = {"src": SIGNAL, "src_key_padding_mask": padding}
    if way == "meta":
        with torch.device("meta"):
            model = encoder(3)
        inputs = SIGNAL.to("meta")
    with torch.set_grad_enabled(way != "no grad"):
        plan = fanin.plan(model, inputs)
    assert not plan.diff(reference)


def test_an_encoder_and_its_decoder_count_their_own_branches():
    model = nn.Transformer(WIDTH, 2, 3, 2, 32, dropout=0.0, batch_first=True)
    plan = fanin.plan(model, (SIGNAL, SIGNAL))
    # Encoder: 6 adds. Decoder: 2 layers of 3, DeepNorm's (12M)^(−¼) and (3M)^¼ with M = 2.
    assert plan["encoder.layers.0.linear1.weight"].std == pytest.approx(24**-0.25 / 4)
    assert plan["decoder.layers.1.linear1.weight"].std == pytest.approx(24**-0.25 / 4)
    model = nn.Transformer(WIDTH, 2, 3, 4, 32, dropout=0.0, batch_first=True)
    plan = fanin.plan(model, (SIGNAL, SIGNAL))
    assert plan["encoder.layers.0.linear1.weight"].std == pytest.approx(24**-0.25 / 4)
    out = plan["decoder.layers.0.multihead_attn.out_proj.weight"]
    assert out.std == pytest.approx(48**-0.25 * 12**-0.25 / 4)


def test_the_whole_of_a_post_norm_stream_decides_not_its_last_norm():
    roles = read_roles(fanin.record(layers(3, order="pre"), SIGNAL))
    closed = nn.Sequential(*layers(3, order="pre")[:-1], nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5))
    final = read_roles(fanin.record(closed, SIGNAL))
    assert not any(r.post_norm for r in (*roles.values(), *final.values()))
    assert {r.stream_branches for n, r in final.items() if n.endswith("fc1.weight")} == {6}


def test_post_norm_beside_pre_norm_in_one_model():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.post, self.pre = layers(3)[:-1], layers(4, order="pre")[:-1]
            self.head = nn.Linear(2 * WIDTH, 5)

        def forward(self, x):
            return self.head(torch.cat([self.post(x), self.pre(x)], -1))

    plan = fanin.plan(Two(), SIGNAL)
    assert "post-norm" in plan["post.0.o.weight"].reason
    assert plan["pre.0.o.weight"].std == pytest.approx(8**-0.5 / 4)
    assert plan["pre.0.v.weight"].std == pytest.approx(SMALL / 4)
    assert plan["post.0.k.weight"].scheme == LeCun()


def test_a_norm_written_by_hand_is_one():
    by_hand, torchs = layers(norm=RMSByHand), layers(norm=lambda: nn.RMSNorm(WIDTH))
    plan, same = fanin.plan(by_hand, SIGNAL), fanin.plan(torchs, SIGNAL)
    assert "post-norm" in plan["0.o.weight"].reason
    assert {n: a.std for n, a in plan.items()} == {n: a.std for n, a in same.items()}


def test_the_gate_of_a_post_norm_mlp_only_chooses():
    plan = fanin.plan(layers(gated=True), SIGNAL)
    assert plan["0.gate.weight"].scheme == LeCun()
    assert plan["0.fc1.weight"].std == pytest.approx(24**-0.25 / 4)
    # E[silu²] = .3558: down is 1/√(.3558 · 32) × (4N)^(−¼) N^(−¼).
    expected = (0.3558 * 32) ** -0.5 * 12**-0.5
    assert plan["0.fc2.weight"].std == pytest.approx(expected, rel=1e-3)


def test_a_writer_behind_which_a_norm_closes_the_branch_is_not_scaled():
    plan = fanin.plan(layers(order="sandwich"), SIGNAL)
    assert plan["0.o.weight"].std == pytest.approx(1 / 4)
    assert "norm closes its branch" in plan["0.o.weight"].reason


SCALES = {
    "divided": (lambda s: s / 4.0, 1.0),
    "multiplied": (lambda s: s * 0.25, 1.0),
    "nothing": (None, 4.0),
    "mup": (lambda s: s / 16.0, 0.25),
    "capped": (lambda s: 30 * torch.tanh(s / 120), 1.0),
    "masked": (lambda s: (s / 4.0).masked_fill(torch.ones(12, 12).triu(1).bool(), -1e9), 1.0),
    "a tensor": (lambda s: s / torch.tensor(4.0), None),
}


@pytest.mark.parametrize("name", SCALES)
def test_logits_of_attention_start_at_a_std_of_at_most_one(name):
    scale, expected = SCALES[name]
    model = layers(order="pre", scale=scale)
    role = read_roles(fanin.record(model, SIGNAL))["0.q.weight"]
    assert role.logit_std == (expected if expected is None else pytest.approx(expected))
    plan = fanin.plan(model, SIGNAL)
    # T5's factor d_k^(−½), where nothing divides by √d_k = 4.
    assert plan["0.q.weight"].std == pytest.approx(SMALL / (16 if name == "nothing" else 4))
    assert plan["0.k.weight"].std == pytest.approx(SMALL / 4)
    fanin.apply(plan, model)
    seen = []
    softmax = torch.Tensor.softmax
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "softmax", lambda s, d: seen.append(s) or softmax(s, d))
        with torch.no_grad():
            model(SIGNAL)
    logits = seen[0][seen[0] > -1e8]
    # 4·12 independent queries and keys of 16 units: the spread of one draw is about 1/√16.
    assert float(logits.std()) < 0.4 * 1.5


@pytest.mark.parametrize("heads", [0, 1], ids=["in parts", "fused"])
def test_torchs_attention_is_divided_already(heads):
    """With an axis of heads it is one fused operation, which takes the scale as an argument."""

    class Attend(nn.Module):
        def __init__(self, scale=None):
            super().__init__()
            self.scale, self.qkv = scale, nn.Linear(WIDTH, 3 * WIDTH)
            self.o = nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            q, k, v = (y[:, None] if heads else y for y in self.qkv(x).chunk(3, -1))
            y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
            return self.o(y[:, 0] if heads else y)

    fused = any("flash" in op.name for op in fanin.record(Attend(), SIGNAL).operations)
    assert fused == bool(heads)
    assert fanin.plan(Attend(), SIGNAL)["qkv.weight"].scheme == LeCun()
    packed = fanin.plan(Attend(1.0), SIGNAL)["qkv.weight"]
    assert [getattr(s, "scale", 1.0) for s in packed.scheme.schemes] == [1 / 16, 1.0, 1.0]
    assert "q ÷ 4" in packed.reason


def test_under_a_norm_of_queries_and_keys_their_scale_does_not_matter():
    plan = fanin.plan(layers(qk_norm=True), SIGNAL)
    assert plan["0.q.weight"].scheme == LeCun()
    assert "norm sets the size" in plan["0.q.weight"].reason
    assert plan["0.of_q.weight"].action is Action.INITIALISE


class Tables(nn.Module):
    def __init__(self, tied):
        super().__init__()
        self.words, self.kinds, self.places = (nn.Embedding(n, WIDTH) for n in (50, 2, 12))
        self.body, self.head = layers(2)[:-1], nn.Linear(WIDTH, 50, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids):
        x = self.words(ids) + self.kinds(torch.zeros_like(ids))
        return self.head(self.body(x + self.places(torch.arange(12))))


@pytest.mark.parametrize("tied", [False, True])
def test_tables_that_are_added_start_equally_large(tied):
    plan = fanin.plan(Tables(tied), torch.zeros(2, 12, dtype=torch.long))
    std = 1 / 4 if tied else 1.0
    assert [plan[f"{n}.weight"].std for n in ("words", "kinds", "places")] == [std] * 3
    assert "words.weight" in plan["places.weight"].reason


@pytest.mark.parametrize("order", ["pre", "post"])
def test_a_table_that_begins_a_residual_stream_has_unit_rms(order):
    """Under the pre-norm stream's final norm too: its size shows beside what branches add."""
    body = nn.Sequential(*layers(2, order=order)[:-1], nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5))
    plan = fanin.plan(nn.Sequential(nn.Embedding(50, WIDTH), body), torch.arange(24).view(2, 12))
    assert plan["0.weight"].std == 1.0


@pytest.mark.parametrize("normalised", [True, False])
def test_a_projection_to_cosines_is_no_small_head(normalised):
    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.bodies = nn.ModuleList(layers(2, order="pre")[:-1] for _ in range(2))
            self.projections = nn.ModuleList(nn.Linear(WIDTH, 8, bias=False) for _ in range(2))

        def forward(self, x, y):
            pairs = zip(self.bodies, self.projections, (x, y), strict=True)
            both = [project(body(signal)).mean(1) for body, project, signal in pairs]
            if normalised:
                both = [F.normalize(e, dim=-1) for e in both]
                return 14.0 * both[0] @ both[1].T
            return torch.cat(both, -1)

    plan = fanin.plan(Towers(), (SIGNAL, SIGNAL))
    stds = [plan[f"projections.{k}.weight"].std for k in range(2)]
    assert stds == ([1 / 4] * 2 if normalised else [1 / 16] * 2)


def test_the_head_of_a_language_model_starts_as_if_tied():
    ids = torch.zeros(2, 12, dtype=torch.long)

    class Words(nn.Module):
        def __init__(self, outputs):
            super().__init__()
            self.words, self.body = nn.Embedding(50, WIDTH), layers(2, order="pre")[:-1]
            self.head = nn.Linear(WIDTH, outputs)

        def forward(self, ids):
            return self.head(self.body(self.words(ids)))

    plan = fanin.plan(Words(50), ids)
    assert plan["head.weight"].std == pytest.approx(1 / 4)
    assert "words.weight" in plan["head.weight"].reason
    # Other classes than the words: the loss starts near ln C.
    assert fanin.plan(Words(7), ids)["head.weight"].std == pytest.approx(0.25 / 4)
    # Behind a post-norm stream a small head would turn with every step.
    assert fanin.plan(layers(2), SIGNAL)["2.weight"].std == pytest.approx(1 / 4)
    assert fanin.plan(layers(2, order="pre"), SIGNAL)["2.weight"].std == pytest.approx(1 / 16)


def test_experts_count_their_own_inputs_and_the_router_starts_even():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.router = nn.Linear(WIDTH, 4, bias=False)
            self.gate_up = nn.Parameter(torch.randn(4, WIDTH, 64))
            self.down = nn.Parameter(torch.randn(4, 32, WIDTH))
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

        def forward(self, x):
            y = self.norm(x).flatten(0, 1)
            share, chosen = self.router(y).softmax(-1).topk(2)
            gate, up = torch.einsum("ti,eio->teo", y, self.gate_up).chunk(2, -1)
            out = torch.einsum("teh,eho->teo", F.silu(gate) * up, self.down)
            kept = out.gather(1, chosen[..., None].expand(-1, -1, WIDTH)) * share[..., None]
            return self.head(x + kept.sum(1).view_as(x))

    plan = fanin.plan(Experts(), SIGNAL)
    assert plan["gate_up"].std == pytest.approx(SMALL / 4)  # 16 inputs, not 4·16
    assert plan["down"].std == pytest.approx((0.3558 * 32) ** -0.5, rel=1e-3)
    assert plan["router.weight"].std == pytest.approx(0.1 / 4)


class OwnTable(nn.Module):
    """A table whose class is no ``nn.Embedding``, as quantised ones are."""

    def __init__(self, rows, width):
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(rows, width))

    def forward(self, ids):
        return F.embedding(ids, self.weight)


@pytest.mark.parametrize("looked_up", [True, False])
def test_positions_that_are_looked_up_are_a_table_whoever_wrote_its_class(looked_up):
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(50, WIDTH), OwnTable(12, WIDTH)
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

        def forward(self, ids):
            places = self.places(torch.arange(12)) if looked_up else self.places.weight
            return self.head(self.norm(self.words(ids) + places))

    plan = fanin.plan(Positions(), torch.zeros(2, 12, dtype=torch.long))
    positions = plan["places.weight"]
    if looked_up:
        assert positions.scheme == plan["words.weight"].scheme
    else:  # added whole: what its author drew
        assert positions.action == "leave"


def test_relative_positions_are_small_beside_the_logits():
    class Relative(Layer):
        def __init__(self):
            super().__init__("pre")
            self.words, self.far = nn.Embedding(9, WIDTH), nn.Embedding(23, 1)

        def scores(self, q, k):
            places = torch.arange(12)
            bias = self.far(places[None] - places[:, None] + 11).squeeze(-1)
            return q @ k.transpose(-1, -2) / 4 + bias

        def forward(self, ids):
            return super().forward(self.words(ids))

    plan = fanin.plan(Relative(), torch.zeros(2, 12, dtype=torch.long))
    assert plan["far.weight"].scheme == Normal(std=0.02)
    assert "logits" in plan["far.weight"].reason


def test_post_norm_advice_falls_with_depth_and_width():
    from fanin.planning.auto.learning_rate import post_norm_rate
    from fanin.planning.reading import read_model

    def rate(model, x=SIGNAL):
        return post_norm_rate(read_model(model, fanin.record(model, x)).circumstances)

    # N adds; per layer 16 (attention) and 32 √E[relu²] (MLP), times (4N)^(−¼).
    reach = 16 + 32 * math.sqrt(0.5)
    for count in (2, 32):
        adds = 2 * count
        expected = 3 / (count * reach * (4 * adds) ** -0.25)
        assert rate(encoder(count)) == pytest.approx(expected, rel=1e-6)
    assert rate(encoder(3, norm_first=True)) is None
    assert fanin.plan(encoder(3), SIGNAL).advice == ()  # nobody would go so high
    wide = nn.TransformerEncoderLayer(WIDTH, 2, 512, batch_first=True)
    wide = nn.TransformerEncoder(wide, 24, enable_nested_tensor=False)
    (advice,) = fanin.plan(wide, SIGNAL).advice
    assert f"learning rate of {rate(wide):.1e}" in advice


def test_a_hundredth_of_the_advised_rate_moves_the_output_alike_at_any_depth():
    from fanin.planning.auto.learning_rate import post_norm_rate
    from fanin.planning.reading import read_model

    moved = []
    target = torch.randint(5, (48,), generator=torch.Generator().manual_seed(1))
    for depth in (4, 32):
        model = nn.Sequential(encoder(depth), nn.Linear(WIDTH, 5))
        rate = post_norm_rate(read_model(model, fanin.record(model, SIGNAL)).circumstances) / 100
        fanin.initialize(model, SIGNAL)
        before = model[0](SIGNAL).detach()
        optimizer = torch.optim.Adam(model.parameters(), rate)
        F.cross_entropy(model(SIGNAL).flatten(0, 1), target).backward()
        optimizer.step()
        moved.append(float((model[0](SIGNAL).detach() - before).square().mean().sqrt()))
    # A rate by N^(−½) or 1/N would move one 8^(¼) = 1.7 times as far as the other.
    assert moved[1] / moved[0] == pytest.approx(1, abs=0.35)
