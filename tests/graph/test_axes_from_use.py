"""fan_in and fan_out against brute force: which inputs reach an output, by autograd."""

import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from fanin.graph import Role, read_roles, record


def positive(model: nn.Module) -> nn.Module:
    """Weights between 0.5 and 1.5: nothing cancels, so that a zero means no connection."""
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return model.double()


def reaching(function, x: torch.Tensor, output: tuple[int, ...]) -> int:
    """How many elements of x reach one element of the output."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(x)[output], x)
    return int((gradient != 0).sum())


def reached(function, x: torch.Tensor, index: tuple[int, ...]) -> int:
    """How many elements of the output one element of x reaches."""
    tangent = torch.zeros_like(x)
    tangent[index] = 1.0
    _, change = torch.func.jvp(function, (x,), (tangent,))
    return int((change != 0).sum())


def fans_of(model: nn.Module, x: torch.Tensor, name: str = "weight"):
    graph = record(model, x)
    role = read_roles(graph)[name]
    return role.axes.fans(graph.parameters[name].shape), role


@st.composite
def convolutions(draw):
    dimensions = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    transposed = draw(st.booleans())
    into, out = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(dimensions))
    stride = tuple(draw(st.integers(1, 2)) for _ in range(dimensions))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(dimensions))
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{dimensions}d")
    return kind(into, out, kernel, stride=stride, dilation=dilation, groups=groups, bias=False)


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_convolutions(layer):
    """Interior positions, averaged over one period of the stride: borders are not fan."""
    layer = positive(layer)
    transposed = layer.transposed
    length = [
        2 * d * (k - 1) + 4 * s + 3
        for k, s, d in zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    ]
    if len(length) == 3:
        assume(max(length) <= 15)
    x = torch.rand(1, layer.in_channels, *length, dtype=torch.float64) + 0.5
    fans, role = fans_of(layer, x)
    out = layer(x)
    middle = [n // 2 for n in length]
    period = torch.cartesian_prod(*[torch.arange(s) for s in layer.stride])
    steps = [list(p) if p.dim() else [p] for p in period]
    if transposed:
        centre = [n // 2 // s * s for n, s in zip(out.shape[2:], layer.stride, strict=True)]
        into = [
            reaching(layer, x, (0, 0, *[c + int(i) for c, i in zip(centre, step, strict=True)]))
            for step in steps
        ]
        assert fans.fan_in == sum(into) / len(into)
        assert fans.fan_out == reached(layer, x, (0, 0, *middle))
        assert role.kind == "transposed convolution"
    else:
        assert fans.fan_in == reaching(layer, x, (0, 0, *[n // 2 for n in out.shape[2:]]))
        away = [
            reached(layer, x, (0, 0, *[m + int(i) for m, i in zip(middle, step, strict=True)]))
            for step in steps
        ]
        assert fans.fan_out == sum(away) / len(away)


class Product(nn.Module):
    """A weight of any layout and the function that applies it to x of shape (batch, n)."""

    def __init__(self, shape, function):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.function = function

    def forward(self, x):
        return self.function(x, self.weight)


@st.composite
def products(draw):
    n, m, e = (draw(st.integers(1, 6)) for _ in range(3))
    layouts = {
        "linear": ((m, n), F.linear),
        "in-out": ((n, m), lambda x, w: x @ w),
        "addmm": ((n, m), lambda x, w: torch.addmm(torch.zeros(m, dtype=x.dtype), x, w)),
        "transposed twice": ((n, m), lambda x, w: F.linear(x, w.t().contiguous())),
        "einsum": ((m, n), lambda x, w: torch.einsum("bi,oi->bo", x, w)),
        "experts at once": ((e, n, m), lambda x, w: torch.bmm(x.expand(e, *x.shape), w)),
        "experts out-in": ((e, m, n), lambda x, w: x @ w.transpose(1, 2)),
        "one expert": ((e, n, m), lambda x, w: x @ w[e - 1]),
        "heads": ((n, e, m), lambda x, w: torch.einsum("bi,ihd->bhd", x, w)),
        "heads, split": ((e * m, n), lambda x, w: x @ w.view(e, m, n).transpose(1, 2)),
        "cast and scaled": ((m, n), lambda x, w: F.linear(x.float(), w.float() * 0.5)),
        "patches": ((m, n, 1, 1), lambda x, w: F.conv2d(x[..., None, None], w)),
        "dot": ((n,), lambda x, w: (x * w).sum(-1)),
    }
    shape, function = layouts[draw(st.sampled_from(sorted(layouts)))]
    return Product(shape, function), n


@settings(max_examples=60, deadline=None)
@given(products())
def test_products(case):
    model, n = case
    model = positive(model)
    x = torch.rand(2, n, dtype=torch.float64) + 0.5
    fans, role = fans_of(model, x)
    out = model(x)
    # The batch stands in the middle for experts; the first element of everything serves.
    assert fans.fan_in == reaching(model, x, (0,) * out.dim())
    experts = len(role.axes.batch) or bool(role.axes.block_sizes) or role.axes.groups > 1
    if not experts:
        assert fans.fan_out == reached(model, x, (0, 0))
    else:
        # One input shared by all experts reaches each of them: fan_out is that of one.
        batches = 1
        for axis in role.axes.batch:
            batches *= model.weight.shape[axis]
        total = reached(model, x, (0, 0))
        assert total in (fans.fan_out, fans.fan_out * batches)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.sampled_from(["flat", "heads"]))
def test_packed_projections(groups, repeats, width, layout):
    """GQA: q, k and v of unequal sizes in one matrix, stored whole or head by head."""
    heads, d = groups * repeats, 5

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(d, (heads + 2 * groups) * width)
            self.out = nn.Linear(heads * width, d)

        def forward(self, x):
            b, t, _ = x.shape
            packed = self.qkv(x)
            if layout == "flat":
                sizes = (heads * width, groups * width, groups * width)
                q, k, v = packed.split(sizes, -1)
                q, k, v = (z.view(b, t, -1, width).transpose(1, 2) for z in (q, k, v))
            else:
                by_group = packed.view(b, t, groups, repeats + 2, width)
                q = by_group[..., :repeats, :].reshape(b, t, heads, width).transpose(1, 2)
                k, v = (by_group[..., -i, :].transpose(1, 2) for i in (2, 1))
            k, v = (z.repeat_interleave(repeats, 1) for z in (k, v))
            z = F.scaled_dot_product_attention(q, k, v)
            return self.out(z.transpose(1, 2).reshape(b, t, -1))

    roles = read_roles(record(Attention(), torch.randn(2, 3, d)))
    role = roles["qkv.weight"]
    assert role.role is Role.PACKED_QKV
    if layout == "flat":
        assert role.axes.block_sizes == (heads * width, groups * width, groups * width)
        assert role.block_names == ("q", "k", "v")
    else:
        assert role.axes.block_sizes == (repeats * width, width, width) * groups
        assert role.block_names == ("q", "k", "v") * groups
    assert roles["qkv.bias"].axes.block_sizes == role.axes.block_sizes
    assert roles["out.weight"].role is Role.ATTENTION_OUT


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["LSTM", "GRU", "RNN"]), st.integers(1, 4), st.integers(2, 4), st.booleans())
def test_recurrent_layers(kind, size, hidden, double):
    layer = getattr(nn, kind)(size, hidden, 2)
    x = torch.randn(3, 1, size)
    if double:  # runs as its parts; float32 runs an LSTM as one operation
        layer, x = layer.double(), x.double()
    graph = record(layer, x)
    roles = read_roles(graph)
    gates = {"LSTM": "ifgo", "GRU": "rzn", "RNN": "h"}[kind]
    for name, fan in (("weight_ih_l0", size), ("weight_hh_l0", hidden), ("weight_ih_l1", hidden)):
        role = roles[name]
        assert role.role is (Role.RECURRENT if "hh" in name else Role.RECURRENT_INPUT)
        assert role.axes.fans(graph.parameters[name].shape).fan_in == fan
        assert role.block_names == tuple(gates)
        blocks = role.axes.blocks(graph.parameters[name].shape)
        assert [block.shape for block in blocks] == [(hidden, fan)] * len(gates)
    assert roles["bias_hh_l1"].role is Role.RECURRENT_BIAS


def test_bilinear():
    layer = positive(nn.Bilinear(4, 5, 3))
    left, right = torch.rand(2, 4, dtype=torch.float64), torch.rand(2, 5, dtype=torch.float64)
    role = read_roles(record(layer, (left, right)))["weight"]
    assert role.axes.fans((3, 4, 5)).fan_in == 20  # products of a pair of inputs that are summed
    assert reached(lambda x: layer(x, right), left, (0, 0)) == 3
