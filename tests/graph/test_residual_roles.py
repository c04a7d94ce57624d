"""Residual writers and the number of branches, over the ways in which people write them."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from fanin.graph import Role, read_roles, record


class Net(nn.Module):
    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *args):
        return self.function(self, *args)


def branches(model, *inputs):
    roles = read_roles(record(model, inputs))
    return {n: r.residual_branches for n, r in roles.items() if r.residual_branches}


X = torch.randn(2, 4)
FORMS = {
    "pre-norm": lambda s, x, i: x + s.b[i](F.relu(s.a[i](s.n[i](x)))),
    "post-norm": lambda s, x, i: s.n[i](x + s.b[i](F.relu(s.a[i](x)))),
    "relu after": lambda s, x, i: F.relu(x + s.b[i](F.relu(s.a[i](x)))),
    "branch first": lambda s, x, i: s.b[i](F.relu(s.a[i](x))) + x,
    "norm at the end": lambda s, x, i: x + s.n[i](s.b[i](F.relu(s.a[i](x)))),
    "dropout": lambda s, x, i: x + F.dropout(s.b[i](F.relu(s.a[i](x)))),
    "scaled": lambda s, x, i: x + 0.1 * s.b[i](F.relu(s.a[i](x))),
    "scaled stream": lambda s, x, i: 2.0 * x + s.b[i](F.relu(s.a[i](x))),
    "in place": lambda s, x, i: s.b[i](F.relu(s.a[i](x))).add_(x),
    "addmm": lambda s, x, i: torch.addmm(x, F.relu(s.a[i](x)), s.b[i].weight.t()),
    "subtracted": lambda s, x, i: x - s.b[i](F.relu(s.a[i](x))),
    "learned factor of the stream": lambda s, x, i: s.beta * x + s.b[i](F.relu(s.a[i](x))),
    "scalar gate": lambda s, x, i: x + s.alpha * s.b[i](F.relu(s.a[i](x))),
}


def stack(form, count=3):
    net = Net(
        lambda s, x: s.head(s.run(s, s.stem(x), count)),
        stem=nn.Linear(4, 4),
        head=nn.Linear(4, 2),
        a=nn.ModuleList(nn.Linear(4, 4) for _ in range(count)),
        b=nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(count)),
        n=nn.ModuleList(nn.LayerNorm(4, elementwise_affine=False) for _ in range(count)),
        alpha=nn.Parameter(torch.ones(1)),
        beta=nn.Parameter(torch.ones(4)),
    )

    def run(s, x, count):
        for i in range(count):
            x = FORMS[form](s, x, i)
        return x

    net.run = run
    return net


@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_write_a_branch(form):
    roles = read_roles(record(stack(form), X))
    writers = {n for n, r in roles.items() if r.residual_branches and n not in ("alpha", "beta")}
    assert writers == {"b.0.weight", "b.1.weight", "b.2.weight"}
    assert all(roles[n].role is Role.RESIDUAL_WRITER for n in writers)
    assert {roles[n].residual_branches for n in writers} == {3}
    assert roles["head.weight"].role is Role.HEAD


def test_a_plain_stack_has_none():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert branches(net, X) == {}


def test_sums_that_are_no_residual():
    two = Net(lambda s, x: s.a(x) + s.b(x), a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    assert branches(two, X) == {}
    towers = Net(
        lambda s, x, y: F.relu(s.a(x)) + F.relu(s.b(y)), a=nn.Linear(4, 4), b=nn.Linear(4, 4)
    )
    assert branches(towers, X, X + 1) == {}
    places = Net(
        lambda s, i: s.out(s.a(i) + s.b(torch.arange(2))),
        a=nn.Embedding(5, 4),
        b=nn.Embedding(2, 4),
        out=nn.Linear(4, 4),
    )
    assert branches(places, torch.tensor([1, 2])) == {}


@pytest.mark.parametrize("order", ["stream first", "branches first"])
def test_parallel_branches(order):
    """GPT-J and NeoX: attention and MLP read one norm and join the stream together."""

    def forward(s, x):
        for i in range(2):
            h = s.n[i](x)
            left, right = s.a[i](F.tanh(s.c[i](h))), s.b[i](F.relu(s.d[i](h)))
            x = x + left + right if order == "stream first" else left + right + x
        return x

    net = Net(
        forward,
        n=nn.ModuleList(nn.LayerNorm(4) for _ in range(2)),
        **{k: nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(2)) for k in "abcd"},
    )
    found = branches(net, X)
    assert set(found) == {"a.0.weight", "a.1.weight", "b.0.weight", "b.1.weight"}


def test_a_projected_stream_and_its_branch():
    """A ResNet's first block of a stage: the stream is projected, the branch is the longer one."""

    def forward(s, x):
        x = F.relu(s.stem(x))
        return s.head(F.relu(s.short(x) + s.second(F.relu(s.first(x)))).mean((2, 3)))

    net = Net(
        forward,
        stem=nn.Conv2d(3, 4, 3),
        short=nn.Conv2d(4, 8, 1, 2),
        first=nn.Conv2d(4, 8, 3, 2, 1),
        second=nn.Conv2d(8, 8, 3, 1, 1),
        head=nn.Linear(8, 2),
    )
    roles = read_roles(record(net, torch.randn(2, 3, 10, 10)))
    assert roles["second.weight"].role is Role.RESIDUAL_WRITER
    assert roles["short.weight"].role is Role.WEIGHT
    assert "projects the stream" in " ".join(roles["short.weight"].evidence)


def test_layer_scale_and_rezero():
    def forward(s, x):
        x = x + s.scale * s.a(F.gelu(s.b(x)))
        return s.head(x + s.alpha * s.c(x))

    net = Net(
        forward,
        **{n: nn.Linear(4, 4) for n in ("a", "b", "c")},
        head=nn.Linear(4, 2),
        scale=nn.Parameter(torch.ones(4)),
        alpha=nn.Parameter(torch.zeros(())),
    )
    roles = read_roles(record(net, X))
    assert roles["scale"].role is Role.LAYER_SCALE
    assert roles["alpha"].role is Role.GATE
    assert roles["scale"].residual_branches == 2
    assert roles["a.weight"].residual_branches == 2


def test_a_lone_skip_with_a_learned_factor_belongs_to_its_layer():
    net = Net(
        lambda s, x: s.out(s.d * x + s.b(F.relu(s.a(x)))),
        **{n: nn.Linear(4, 4) for n in ("a", "b", "out")},
        d=nn.Parameter(torch.ones(4)),
    )
    assert branches(net, X) == {}


def test_encoder_and_decoder_count_their_own_branches():
    net = nn.Transformer(8, 2, 2, 3, 16, batch_first=True)
    roles = read_roles(record(net, (torch.randn(1, 4, 8), torch.randn(1, 3, 8))))
    assert roles["encoder.layers.0.linear2.weight"].residual_branches == 4
    assert roles["decoder.layers.0.linear2.weight"].residual_branches == 9
    assert roles["decoder.layers.2.multihead_attn.out_proj.weight"].residual_branches == 9
    assert roles["decoder.layers.2.multihead_attn.in_proj_weight"].role is Role.PACKED_QKV


def test_the_last_scale_of_a_branch_is_known():
    """What the recipe for ResNets sets to zero."""

    def forward(s, x):
        return x + s.n2(s.b(F.relu(s.n1(s.a(x)))))

    net = Net(
        forward, a=nn.Linear(4, 4), b=nn.Linear(4, 4), n1=nn.BatchNorm1d(4), n2=nn.BatchNorm1d(4)
    )
    roles = read_roles(record(net, X))
    assert roles["n2.weight"].residual_branches == 1
    assert roles["n1.weight"].residual_branches == 0


class Stages(nn.Module):
    """One block a stage, then a norm and a layer that changes the width, or a norm alone."""

    def __init__(self, stages, *, widening):
        super().__init__()
        widths = [4 * 2**k if widening else 8 for k in range(stages + 1)]
        self.a = nn.ModuleList(nn.Linear(w, w) for w in widths[:-1])
        self.b = nn.ModuleList(nn.Linear(w, w) for w in widths[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(w) for w in widths[:-1])
        self.widen = nn.ModuleList(
            nn.Linear(w, v) if widening else nn.Identity() for w, v in pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], 3)

    def forward(self, x):
        for a, b, norm, widen in zip(self.a, self.b, self.norms, self.widen, strict=True):
            x = widen(norm(x + b(F.relu(a(x)))))
        return self.head(x)


@pytest.mark.parametrize("stages", [2, 4])
@pytest.mark.parametrize("widening", [False, True])
def test_a_norm_before_a_wider_stage_does_not_make_a_stream_post_norm(stages, widening):
    model = Stages(stages, widening=widening)
    width = model.a[0].in_features
    roles = read_roles(record(model, (torch.randn(5, width),)))
    first = [roles[f"b.{k}.weight"].post_norm for k in range(stages - 1)]
    assert first == [not widening] * (stages - 1)
