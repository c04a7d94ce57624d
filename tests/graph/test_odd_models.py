"""Models that are written in unusual ways: each records, and its weights are read."""

import warnings

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import pack_sequence
from torch.utils.checkpoint import checkpoint

from fanin.graph import Role, read_roles, record

X = torch.randn(3, 4)


class Net(nn.Module):
    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *args):
        return self.function(self, *args)


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        return x @ w

    @staticmethod
    def backward(ctx, gradient):
        return gradient, gradient


def autocast(self, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return F.linear(x, self.w)


def gradient(self, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(self.a(x).square().sum(), x, create_graph=True)[0]


def called_functionally(self, x):
    tensors = {"weight": self.a.weight * 2, "bias": self.a.bias}
    return torch.func.functional_call(self.a, tensors, (x,))


def standardised(self, x):
    mean, std = self.w.mean(1, keepdim=True), self.w.std(1, keepdim=True)
    return F.linear(x, (self.w - mean) / std)


def jagged(self, x):
    ragged = torch.nested.nested_tensor([x[:2], x], layout=torch.jagged)
    return F.linear(ragged, self.w).values()


def nested(self, x):
    ragged = torch.nested.nested_tensor([x[:2], x])
    return F.linear(ragged, self.w).to_padded_tensor(0.0)


def checkpointed_twice(self, x):
    def inner(y):
        return checkpoint(lambda z: F.linear(z, self.w), y, use_reentrant=False)

    return checkpoint(inner, x, use_reentrant=False)


def straight_through(self, x):
    return F.linear(x, self.w + (self.w.sign() * self.w.abs().mean() - self.w).detach())


WRITTEN = {
    "jagged": jagged,
    "nested": nested,
    "checkpointed twice": checkpointed_twice,
    "straight through": straight_through,
    "einsum": lambda s, x: torch.einsum("oi,bi->bo", s.w, x),
    "inner": lambda s, x: torch.inner(x, s.w),
    "tensordot": lambda s, x: torch.tensordot(x, s.w, dims=([1], [1])),
    "rows in another order": lambda s, x: F.linear(x, s.w[torch.tensor([4, 2, 0, 1, 3])]),
    "the first rows": lambda s, x: F.linear(x, s.w[:3]),
    "the upper triangle": lambda s, x: F.linear(x, s.w.triu()),
    "functional derivative": lambda s, x: torch.func.jvp(
        lambda y: torch.tanh(F.linear(y, s.w)), (x,), (x,)
    )[1],
    "vmapped derivative": lambda s, x: torch.vmap(
        torch.func.jacrev(lambda y: torch.tanh(F.linear(y, s.w)))
    )(x),
    "custom function": lambda s, x: Product.apply(x, s.w.t()),
    "vmap": lambda s, x: torch.vmap(lambda row: F.linear(row, s.w))(x),
    "through numpy": lambda s, x: F.linear(torch.from_numpy(x.numpy() * 2), s.w),
    "scaled by a value": lambda s, x: F.linear(x, s.w) * float(x.sum()),
    "standardised": standardised,
    "autocast": autocast,
    "sparse": lambda s, x: torch.sparse.mm(x.to_sparse(), s.w.t()),
    "unfolded": lambda s, x: s.w @ F.unfold(x.view(3, 1, 2, 2), 2),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_one_weight_however_it_is_applied(how):
    net = Net(WRITTEN[how], w=nn.Parameter(torch.randn(5, 4)))
    role = read_roles(record(net, X))["w"]
    assert role.axes.fans((5, 4)).fan_in == 4


def test_gradients_and_functional_calls_inside_forward():
    for function in (gradient, called_functionally):
        roles = read_roles(record(Net(function, a=nn.Linear(4, 5)), X))
        assert roles["a.weight"].axes.inputs == (1,)


def test_packed_sequences():
    inputs = pack_sequence([torch.randn(3, 4), torch.randn(2, 4)])
    roles = read_roles(record(nn.LSTM(4, 5), (inputs,)))
    assert roles["weight_hh_l0"].role is Role.RECURRENT
    assert roles["weight_hh_l0"].block_names == ("i", "f", "g", "o")


@pytest.mark.parametrize("compiler", [torch.jit.script, lambda m: torch.jit.trace(m, X)])
def test_torchscript(compiler):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = compiler(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))
    assert read_roles(record(net, X))["0.weight"].activation.name == "relu"


def test_bayesian_layers_tell_the_mean_from_the_width():
    def forward(self, x):
        return F.linear(x, self.mu + torch.exp(self.rho) * torch.randn(5, 4))

    net = Net(forward, mu=nn.Parameter(torch.randn(5, 4)), rho=nn.Parameter(torch.randn(5, 4)))
    roles = read_roles(record(net, X))
    assert roles["mu"].role is Role.HEAD
    assert roles["rho"].role is Role.GATE


def test_wrappers_and_containers():
    net = nn.DataParallel(Net(lambda s, x: x @ s.p[0] @ s.p[1], p=nn.ParameterList()))
    net.module.p.extend([nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3, 2))])
    roles = read_roles(record(net, X))
    assert [role.axes.inputs for role in roles.values()] == [(0,), (0,)]


def test_models_without_parameters_or_outputs():
    assert read_roles(record(nn.ReLU(), X)) == {}
    roles = read_roles(record(Net(lambda s, x: None, a=nn.Linear(4, 4)), X))
    assert {role.role for role in roles.values()} == {Role.UNUSED}


def table(net, inputs):
    """Parameter -> (role, fan_in)."""
    graph = record(net, inputs)
    roles = read_roles(graph)
    return {
        name: (role.role, role.axes.fans(graph.parameters[name].shape).fan_in)
        for name, role in roles.items()
    }


def vector(*shape):
    return nn.Parameter(torch.randn(shape))


def test_models_that_yield_run_to_the_end():
    def forward(self, x):
        for layer in (self.a, self.b):
            x = layer(x)
            yield x

    graph = record(Net(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 2)), X)
    assert read_roles(graph)["b.weight"].role is Role.HEAD
    assert len(graph.outputs) == 2


def test_matrices_chosen_by_data_are_weights_and_so_are_their_biases():
    def forward(self, x):
        chosen = self.router(x).argmax(-1)
        h = torch.einsum("bi,bio->bo", x, self.w1[chosen]) + self.b1[chosen]
        return torch.einsum("bo,boi->bi", h.relu(), self.w2[chosen])

    net = Net(
        forward, router=nn.Linear(4, 3), w1=vector(3, 4, 8), b1=vector(3, 8), w2=vector(3, 8, 4)
    )
    found = table(net, torch.randn(16, 4))
    assert found["router.weight"] == (Role.ROUTER, 4)
    assert found["w1"] == (Role.WEIGHT, 4)
    assert found["w2"] == (Role.HEAD, 8)
    assert found["b1"][0] is Role.BIAS


def test_rows_chosen_by_data_are_a_table():
    def forward(self, ids):
        return self.head(self.table[ids])

    net = Net(forward, table=vector(9, 4), head=nn.Linear(4, 2))
    assert table(net, torch.tensor([1, 2]))["table"][0] is Role.EMBEDDING


def test_biases_of_stacked_layers():
    def forward(self, x):
        one = {"weight": self.w, "bias": self.b}
        return torch.vmap(lambda p: torch.func.functional_call(self.layer[0], p, (x,)))(one)

    net = Net(forward, w=vector(3, 5, 4), b=vector(3, 5))
    net.layer = [nn.Linear(4, 5)]
    found = table(net, X)
    assert found["w"] == (Role.HEAD, 4)
    assert found["b"][0] is Role.BIAS


def test_experts_that_no_token_chose_are_read_as_the_others():
    class Expert(nn.Module):
        def __init__(self):
            super().__init__()
            self.w1, self.w3, self.w2 = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4)

        def forward(self, x):
            return self.w2(F.silu(self.w1(x)) * self.w3(x))

    def forward(self, x):
        return x + self.experts[1](x) + self.tail[0](x)

    experts = nn.ModuleList(Expert() for _ in range(3))
    tail = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    roles = read_roles(record(Net(forward, experts=experts, tail=tail), X))
    for name in ("w1", "w2", "w3"):
        for local in ("weight", "bias"):
            used = roles[f"experts.1.{name}.{local}"]
            for other in (0, 2):
                found = roles[f"experts.{other}.{name}.{local}"]
                assert (found.role, found.axes, found.activation) == (
                    used.role, used.axes, used.activation,
                )  # fmt: skip
                assert found.from_name
                assert f"experts.1.{name}.{local}" in found.evidence[0]
    # The layers of a Sequential follow each other: they are no alternatives.
    assert roles["tail.1.weight"].role is Role.UNUSED


def test_gates_that_alternate_with_the_values_they_open():
    def forward(self, x):
        gate, up = self.w(x)[..., ::2], self.w(x)[..., 1::2].clamp(-7, 7)
        return self.down(gate * torch.sigmoid(1.702 * gate) * (up + 1))

    found = read_roles(record(Net(forward, w=nn.Linear(4, 12), down=nn.Linear(6, 4)), X))
    assert found["w.weight"].role is Role.GATE_PROJECTION
    assert found["w.weight"].axes.block_sizes == ()
    assert found["down.weight"].role is Role.DOWN_PROJECTION


def test_points_that_signals_are_compared_with():
    def distance(self, x):
        return torch.exp(-torch.cdist(x, self.centres)) @ self.w

    def by_hand(self, x):
        return ((self.w(x)[:, None] - self.centres) ** 2).sum(-1)

    found = table(Net(distance, centres=vector(6, 4), w=vector(6, 2)), X)
    assert found == {"centres": (Role.TOKEN, 1), "w": (Role.HEAD, 6)}
    assert table(Net(by_hand, centres=vector(6, 5), w=nn.Linear(4, 5)), X)["centres"] == (
        Role.TOKEN, 1,
    )  # fmt: skip


def test_masks_made_of_scores_and_mixtures_of_kernels():
    masked = Net(lambda s, x: F.linear(x, s.w * (s.m > 0)), w=vector(5, 4), m=vector(5, 4))
    assert table(masked, X) == {"w": (Role.HEAD, 4), "m": (Role.GATE, 4)}

    def forward(self, x):
        return F.linear(x, (self.a.softmax(0)[:, None, None] * self.w).sum(0))

    assert table(Net(forward, a=vector(3), w=vector(3, 5, 4)), X)["w"] == (Role.HEAD, 4)


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)


class Skewed(nn.Module):
    def forward(self, x):
        return torch.matrix_exp(x - x.transpose(-1, -2))


@pytest.mark.parametrize(
    "parametrise",
    [
        lambda layer: parametrize.register_parametrization(layer, "weight", Symmetric()),
        lambda layer: parametrize.register_parametrization(layer, "weight", Skewed()),
        parametrizations.orthogonal,
        lambda layer: parametrizations.spectral_norm(parametrizations.weight_norm(layer)),
    ],
    ids=["symmetric", "exponential", "orthogonal", "spectral of weight norm"],
)
@pytest.mark.parametrize("rows", [4, 6])
def test_weights_under_parametrisations(parametrise, rows):
    if rows != 4 and parametrise is not parametrizations.orthogonal:
        pytest.skip("for square matrices")
    found = table(parametrise(nn.Linear(4, rows)), X)
    carriers = [name for name in found if "original" in name and not name.endswith("original0")]
    assert [found[name][1] for name in carriers] == [4]


def test_kernels_given_as_real_and_imaginary_parts():
    def forward(self, x):
        waves = torch.fft.rfft(x)[..., :3]
        return torch.einsum("bim,iom->bom", waves, torch.view_as_complex(self.w)).abs()

    assert table(Net(forward, w=vector(4, 5, 3, 2)), torch.randn(2, 4, 8))["w"][1] == 4


def test_observers_that_grow_and_inference_tensors():
    from torch.ao.quantization import get_default_qat_qconfig, prepare_qat

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).train()
        net.qconfig = get_default_qat_qconfig()
        net = prepare_qat(net)
        shapes = {name: (b.shape, b.clone()) for name, b in net.named_buffers()}
        assert table(net, X)["0.weight"] == (Role.WEIGHT, 4)
    for name, buffer in net.named_buffers():
        assert buffer.shape == shapes[name][0], name
        assert torch.equal(buffer, shapes[name][1]), name
    with torch.inference_mode():
        still = nn.Linear(4, 5)
    assert table(still, X)["weight"] == (Role.HEAD, 4)


def test_experts_in_float32_on_the_meta_device():
    def forward(self, x):
        ends = torch.full((3,), x.shape[0], dtype=torch.int32, device=x.device)
        return torch._grouped_mm(x, self.w, offs=ends).relu() @ self.out

    with torch.device("meta"):
        net = Net(forward, w=vector(3, 16, 32), out=vector(32, 8))
    graph = record(net, torch.randn(64, 16))
    role = read_roles(graph)["w"]
    assert (role.axes.batch, role.axes.inputs, role.axes.outputs) == ((0,), (1,), (2,))
    assert graph.tensors[graph.outputs[0]].dtype == "float32"
