"""Roles of layers, norms, biases, tables, gates and tokens, each in a model that shows it."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils import parametrizations

from fanin.graph import Role, read_roles, record


class Net(nn.Module):
    """One class for models that are one function of a few layers."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *args):
        return self.function(self, *args)


def roles_of(model, *inputs):
    return read_roles(record(model, inputs))


def table(model, *inputs):
    return {name: role.role for name, role in roles_of(model, *inputs).items()}


def vector(*shape):
    return nn.Parameter(torch.ones(*shape))


X = torch.randn(2, 4)


def test_a_plain_stack():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    roles = roles_of(net, X)
    assert [roles[f"{i}.weight"].role for i in (0, 2, 4)] == [Role.WEIGHT, Role.WEIGHT, Role.HEAD]
    assert [roles[f"{i}.weight"].activation.name for i in (0, 2, 4)] == ["relu", "tanh", "linear"]
    assert [roles[f"{i}.weight"].before.name for i in (0, 2, 4)] == ["linear", "relu", "tanh"]
    assert [roles[f"{i}.weight"].depth for i in (0, 2, 4)] == [1, 2, 3]
    assert roles["2.bias"].role is Role.BIAS
    assert roles["2.bias"].activation.name == "tanh"
    assert not any(role.residual_branches for role in roles.values())
    assert not any(role.from_name for role in roles.values())
    assert "addmm #4 in '2' sums over 8" in roles["2.weight"].evidence[0]


def test_norm_and_dropout_stand_between_layer_and_activation():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ELU(), nn.Flatten())
    roles = roles_of(net, torch.randn(2, 3, 5, 5))
    assert roles["0.weight"].norm_after
    assert roles["0.weight"].activation.name == "elu"
    assert (roles["1.weight"].role, roles["1.bias"].role) == (Role.NORM_SCALE, Role.NORM_BIAS)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.LayerNorm(4), (2, 4)),
        (nn.RMSNorm(4), (2, 4)),
        (nn.GroupNorm(2, 4), (2, 4)),
        (nn.BatchNorm1d(4).eval(), (2, 4)),
        (nn.InstanceNorm2d(4, affine=True), (2, 4, 3, 3)),
    ],
)
def test_norms_of_torch(norm, shape):
    for name, role in table(norm, torch.randn(shape)).items():
        assert role is (Role.NORM_SCALE if name == "weight" else Role.NORM_BIAS)


def test_norms_written_by_hand():
    def rms(self, x):
        x = F.linear(x, self.w)
        return self.g * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))

    def layer(self, x):
        x = F.linear(x, self.w)
        mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        return (x - mean) / (var + 1e-5).sqrt() * self.g + self.b

    def gemma(self, x):
        x = F.linear(x, self.w)
        return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True))) * (1 + self.g)

    for function in (rms, layer, gemma):
        roles = roles_of(Net(function, w=vector(4, 4), g=vector(4), b=vector(4)), X)
        assert roles["w"].norm_after
        assert roles["w"].activation.name == "linear"
        assert roles["g"].role is Role.NORM_SCALE
        assert roles["g"].offset == (1.0 if function is gemma else 0.0)
        assert roles["b"].role is (Role.NORM_BIAS if function is layer else Role.UNUSED)


def test_embeddings_positions_and_tied_heads():
    def forward(self, ids):
        place = torch.arange(ids.shape[1])
        x = self.tokens(ids) + self.places(place) + self.learned[:, : ids.shape[1]]
        return F.linear(torch.tanh(self.mix(x)), self.tokens.weight)

    net = Net(
        forward,
        tokens=nn.Embedding(9, 4),
        places=nn.Embedding(6, 4),
        learned=vector(1, 6, 4),
        mix=nn.Linear(4, 4),
    )
    roles = roles_of(net, torch.tensor([[1, 2, 3]]))
    assert roles["tokens.weight"].role is Role.TIED_HEAD
    assert roles["tokens.weight"].axes.fans((9, 4)).fan_in == 4
    assert roles["places.weight"].role is Role.POSITION_TABLE
    assert roles["learned"].role is Role.POSITION_TABLE
    assert roles["mix.bias"].role is Role.BIAS


def test_an_untied_embedding_sums_nothing():
    roles = roles_of(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)), torch.tensor([1, 2]))
    assert roles["0.weight"].role is Role.EMBEDDING
    assert roles["0.weight"].axes.fans((9, 4)).fan_in == 1


def test_tokens_queries_and_masks():
    def forward(self, x):
        x = torch.cat([self.cls.expand(2, 1, 4), x], 1)
        x = torch.where(torch.tensor([True, False, False])[:, None], self.mask, x)
        q = F.linear(self.queries, self.wq)
        return F.scaled_dot_product_attention(q.expand(2, 5, 4), F.linear(x, self.wk), x)

    net = Net(
        forward,
        cls=vector(1, 1, 4),
        mask=vector(4),
        queries=vector(5, 4),
        wq=vector(4, 4),
        wk=vector(4, 4),
    )
    found = table(net, torch.randn(2, 2, 4))
    assert found == {
        "cls": Role.TOKEN,
        "mask": Role.TOKEN,
        "queries": Role.TOKEN,
        "wq": Role.QUERY,
        "wk": Role.KEY,
    }  # fmt: skip


def test_unused_and_unknown_say_why():
    def forward(self, x):
        return torch.linalg.solve(self.w + torch.eye(4), x.mT)

    roles = roles_of(Net(forward, w=vector(4, 4), idle=vector(2)), torch.randn(2, 3, 4))
    assert roles["idle"].role is Role.UNUSED
    assert "no operation" in roles["idle"].evidence[0]
    assert roles["w"].role is Role.UNKNOWN
    assert "solve" in roles["w"].evidence[0]


def test_attention_by_hand_equals_attention_as_one_operation():
    def by_hand(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        return self.o(((q @ k.transpose(1, 2)) / 2).softmax(-1) @ v)

    def fused(self, x):
        return self.o(F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x)))

    def linear(self, x):
        return self.o(F.elu(self.q(x)) @ (F.elu(self.k(x)).transpose(1, 2) @ self.v(x)))

    for function in (by_hand, fused, linear):
        net = Net(function, **{n: nn.Linear(4, 4, bias=False) for n in "qkvo"})
        found = list(table(net, torch.randn(2, 3, 4)).values())
        assert found == [Role.QUERY, Role.KEY, Role.VALUE, Role.ATTENTION_OUT], function


def test_multihead_attention_of_torch():
    roles = roles_of(nn.MultiheadAttention(6, 2), *[torch.randn(3, 1, 6) for _ in range(3)])
    assert roles["in_proj_weight"].role is Role.PACKED_QKV
    assert roles["in_proj_weight"].axes.block_sizes == (6, 6, 6)
    assert roles["in_proj_bias"].axes.block_sizes == (6, 6, 6)
    assert roles["out_proj.weight"].role is Role.ATTENTION_OUT
    x = torch.randn(3, 1, 6)
    alone = roles_of(nn.MultiheadAttention(6, 2, add_bias_kv=True), x, x, x)
    assert alone["in_proj_weight"].block_names == ("q", "k", "v")
    assert alone["bias_k"].role is Role.TOKEN


def test_gated_layers_apart_and_in_one():
    def apart(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))

    def packed(self, x):
        up, gate = self.both(x).chunk(2, -1)
        return self.down(F.gelu(gate) * up)

    def glu(self, x):
        return self.down(F.glu(self.both(x)))

    found = roles_of(Net(apart, gate=nn.Linear(4, 6), up=nn.Linear(4, 6), down=nn.Linear(6, 4)), X)
    expected = [Role.GATE_PROJECTION, Role.UP_PROJECTION, Role.DOWN_PROJECTION]
    assert [found[f"{n}.weight"].role for n in ("gate", "up", "down")] == expected
    assert found["down.weight"].before.name == "silu"
    assert found["up.weight"].activation.name == "linear"
    for function in (packed, glu):
        found = roles_of(Net(function, both=nn.Linear(4, 12), down=nn.Linear(6, 4)), X)
        assert found["both.weight"].role is Role.GATE_PROJECTION
        assert found["both.weight"].axes.block_sizes == (6, 6)
        assert found["both.weight"].block_names == ("up", "gate")
        assert found["down.weight"].role is Role.DOWN_PROJECTION


def test_squeeze_and_excite_is_a_gate_but_no_gated_mlp():
    def forward(self, x):
        x = F.relu(self.conv(x))
        return x * torch.sigmoid(self.open(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))

    net = Net(forward, conv=nn.Conv2d(3, 8, 3), squeeze=nn.Conv2d(8, 2, 1), open=nn.Conv2d(2, 8, 1))
    found = table(net, torch.randn(2, 3, 5, 5))
    assert found["open.weight"] is Role.GATE_PROJECTION
    assert found["conv.weight"] is Role.WEIGHT
    assert found["squeeze.weight"] is Role.WEIGHT


def test_routers_and_experts():
    def forward(self, x):
        share, chosen = self.router(x).softmax(-1).topk(2)
        out = torch.zeros_like(x)
        for place in range(3):
            rows, which = torch.where(chosen == place)
            picked = F.relu(x[rows] @ self.first[place]) @ self.second[place]
            out = out.index_add(0, rows, picked * share[rows, which, None])
        return x + out

    net = Net(
        forward, router=nn.Linear(4, 3, bias=False), first=vector(3, 4, 5), second=vector(3, 5, 4)
    )
    roles = roles_of(net, torch.randn(16, 4))
    assert roles["router.weight"].role is Role.ROUTER
    assert roles["router.weight"].residual_branches == 0
    assert roles["first"].axes.batch == (0,)
    assert roles["first"].axes.fans((3, 4, 5)).fan_in == 4
    assert roles["second"].role is Role.RESIDUAL_WRITER
    assert roles["second"].axes.fans((3, 5, 4)).fan_in == 5


def test_a_classifier_is_no_router():
    net = Net(lambda self, x: self.head(x).argmax(-1), head=nn.Linear(4, 3))
    assert table(net, X)["head.weight"] is not Role.ROUTER


def test_adapters_beside_and_inside_a_weight():
    def beside(self, x):
        return torch.relu(self.base(x) + 0.5 * self.up(self.down(F.dropout(x))))

    net = Net(
        beside,
        base=nn.Linear(8, 6),
        down=nn.Linear(8, 2, bias=False),
        up=nn.Linear(2, 6, bias=False),
    )
    roles = roles_of(net, torch.randn(3, 8))
    assert roles["down.weight"].role is Role.ADAPTER_DOWN
    assert roles["up.weight"].role is Role.ADAPTER_UP
    assert roles["base.weight"].activation.name == "relu"

    def inside(self, x):
        return F.linear(x, self.base + 0.5 * self.up @ self.down)

    roles = roles_of(
        Net(inside, base=vector(6, 8), down=vector(2, 8), up=vector(6, 2)), torch.randn(3, 8)
    )
    assert roles["down"].role is Role.ADAPTER_DOWN
    assert roles["down"].axes.fans((2, 8)).fan_in == 8
    assert roles["up"].role is Role.ADAPTER_UP
    assert roles["up"].axes.fans((6, 2)).fan_in == 2


def test_parametrised_weights():
    def roles(norm):
        return roles_of(
            nn.Sequential(norm(nn.Conv1d(4, 6, 3)), nn.Softplus(), nn.Conv1d(6, 2, 1)),
            torch.randn(2, 4, 9),
        )

    new = roles(parametrizations.weight_norm)
    direction = new["0.parametrizations.weight.original1"]
    assert direction.role is Role.WEIGHT
    assert direction.activation.name == "softplus"
    assert direction.axes.fans((6, 4, 3)).fan_in == 12
    assert new["0.parametrizations.weight.original0"].kind == "weight norm"
    with pytest.warns(FutureWarning):
        old = roles(nn.utils.weight_norm)
    assert old["0.weight_v"].axes == direction.axes
    for spectral in (nn.utils.spectral_norm, parametrizations.spectral_norm):
        found = roles(spectral)
        weight = next(
            role for name, role in found.items() if name.startswith("0.") and "weight" in name
        )
        assert weight.axes == direction.axes
        assert found["0.bias"].role is Role.BIAS


def test_a_cell_written_by_hand_names_its_gates():
    def lstm(self, x):
        h = c = torch.zeros(2, 3)
        for t in range(4):
            g, f, o, i = (self.x(x[:, t]) + self.h(h)).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h

    roles = roles_of(Net(lstm, x=nn.Linear(5, 12), h=nn.Linear(3, 12)), torch.randn(2, 4, 5))
    assert roles["h.weight"].role is Role.RECURRENT
    assert roles["x.weight"].role is Role.RECURRENT_INPUT
    assert roles["x.bias"].role is Role.RECURRENT_BIAS
    for name in ("h.weight", "x.weight", "x.bias"):
        assert roles[name].block_names == ("g", "f", "o", "i")
        assert roles[name].axes.block_sizes == (3, 3, 3, 3)


def test_modulation_and_gates():
    def forward(self, x, c):
        shift, scale, gate = self.modulation(F.silu(c)).chunk(3, -1)
        return x + gate * self.mix(F.layer_norm(x, (4,)) * (1 + scale) + shift)

    net = Net(forward, modulation=nn.Linear(4, 12), mix=nn.Linear(4, 4))
    roles = roles_of(net, X, torch.randn(2, 4))
    assert roles["modulation.weight"].role is Role.MODULATION
    assert roles["mix.weight"].residual_branches == 1
    assert roles["modulation.weight"].residual_branches == 0


def test_the_role_is_read_off_the_use_and_not_off_the_name():
    def forward(self, x):
        return F.relu(x @ self.bias) + self.weight

    roles = roles_of(Net(forward, bias=vector(4, 3), weight=vector(3)), X)
    assert roles["bias"].role is Role.HEAD
    assert roles["bias"].axes.inputs == (0,)
    assert roles["weight"].role is Role.BIAS


def test_a_matrix_used_there_and_back_is_not_recurrent():
    """The decoder of a tied autoencoder sums over what the encoder made."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(32, 16)
            self.bias = nn.Parameter(torch.zeros(32))

        def forward(self, x):
            code = torch.tanh(self.encoder(x))
            return nn.functional.linear(code, self.encoder.weight.t(), self.bias)

    roles = read_roles(record(Tied(), torch.zeros(4, 32)))
    assert {str(role.role) for role in roles.values()} == {"weight", "bias"}


def test_a_cast_behind_an_activation_is_not_named_as_the_activation():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(8, 8).bfloat16(), nn.Linear(8, 8)

        def forward(self, x):
            return self.second(nn.functional.silu(self.first(x.bfloat16())).float())

    role = read_roles(record(Mixed(), torch.zeros(4, 8)))["first.weight"]
    assert role.activation.name == "silu"
    assert any("silu: silu #" in line for line in role.evidence)
