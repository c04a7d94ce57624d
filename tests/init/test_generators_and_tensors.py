"""What governs the values of fanin.init, and the kinds of tensor that it fills."""

import copy

import pytest
import torch
from torch import nn

from fanin import init
from fanin.errors import FaninError

DRAWING = {
    "uniform_": (),
    "normal_": (),
    "trunc_normal_": (),
    "xavier_uniform_": (),
    "xavier_normal_": (),
    "kaiming_uniform_": (),
    "kaiming_normal_": (),
    "orthogonal_": (),
    "sparse_": (0.3,),
}
WRITING = {**DRAWING, "constant_": (0.5,), "ones_": (), "zeros_": (), "eye_": ()}

each_drawing = pytest.mark.parametrize("name", DRAWING)
each_writing = pytest.mark.parametrize("name", WRITING)


def call(name, tensor, **kwargs):
    return getattr(init, name)(tensor, *WRITING[name], **kwargs)


@each_drawing
def test_manual_seed_governs(name):
    torch.manual_seed(5)
    first, second = call(name, torch.empty(8, 6)), call(name, torch.empty(8, 6))
    torch.manual_seed(5)
    assert torch.equal(call(name, torch.empty(8, 6)), first)
    assert not torch.equal(first, second)
    torch.manual_seed(6)
    assert not torch.equal(call(name, torch.empty(8, 6)), first)


@each_drawing
def test_a_generator_governs_and_the_default_one_rests(name):
    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(5)
    first = call(name, torch.empty(8, 6), generator=generator)
    second = call(name, torch.empty(8, 6), generator=generator)
    again = call(name, torch.empty(8, 6), generator=generator.manual_seed(5))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(call(name, torch.empty(8, 6)), first)


@each_drawing
def test_a_fork_of_the_generator_repeats(name):
    with torch.random.fork_rng():
        inside = call(name, torch.empty(4, 4))
    assert torch.equal(call(name, torch.empty(4, 4)), inside)


@each_writing
def test_leaves_that_require_grad(name):
    parameter = nn.Parameter(torch.empty(5, 4))
    version = parameter._version
    assert call(name, parameter) is parameter
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert parameter.grad_fn is None
    assert parameter._version > version
    (parameter**2).sum().backward()


@each_drawing
def test_autograd_notices_the_change(name):
    w = torch.randn(4, 4, requires_grad=True)
    loss = (w**2).sum()
    call(name, w)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@each_writing
@pytest.mark.parametrize(
    "view",
    [
        lambda: torch.empty(6, 8).t(),
        lambda: torch.empty(8, 12)[:, ::2],
        lambda: torch.empty(16, 6)[::2],
        lambda: torch.empty(3, 8, 6)[1],
        lambda: torch.empty(8, 6, 2)[..., 1],
    ],
)
def test_views_hold_the_values_of_a_plain_tensor(name, view):
    torch.manual_seed(1)
    plain = call(name, torch.empty(8, 6))
    torch.manual_seed(1)
    assert torch.equal(call(name, view()), plain)


def test_a_view_leaves_the_rest_alone():
    base = torch.full((4, 6), 9.0)
    init.normal_(base[:, 1:3])
    assert (base[:, [0, 3, 4, 5]] == 9.0).all()


@each_writing
def test_meta_tensors_are_an_error(name):
    with pytest.raises(FaninError, match="meta"):
        call(name, torch.empty(3, 3, device="meta"))


def test_dirac_on_meta_is_an_error():
    with pytest.raises(FaninError, match="meta"):
        init.dirac_(torch.empty(3, 3, 3, device="meta"))


def test_models_are_built_on_meta_as_with_torch(monkeypatch):
    for module in (nn.modules.linear, nn.modules.conv, nn.modules.sparse):
        monkeypatch.setattr(module, "init", init)
    state = torch.get_rng_state()
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(3, 4, 2), nn.Embedding(5, 6))
        for name in WRITING:
            call(name, torch.empty(3, 3))
        init.dirac_(torch.empty(3, 3, 3))
    assert all(p.is_meta for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_default_device_changes_nothing():
    torch.manual_seed(0)
    plain = init.normal_(torch.empty(5))
    torch.manual_seed(0)
    with torch.device("cpu"):
        assert torch.equal(init.normal_(torch.empty(5)), plain)


@each_writing
def test_fake_tensors_stay_fake(name):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        tensor = torch.empty(4, 4)
        assert call(name, tensor) is tensor


def test_torch_function_is_honoured():
    class Watched(torch.Tensor):
        calls = []  # noqa: RUF012

        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            cls.calls.append(function)
            return super().__torch_function__(function, types, args, kwargs or {})

    tensor = torch.zeros(4, 4).as_subclass(Watched)
    for name in ("uniform_", "normal_", "kaiming_uniform_", "constant_"):
        call(name, tensor)
        assert getattr(init, name) in Watched.calls
    assert type(init.xavier_normal_(tensor)) is Watched


def test_torchs_layers_can_use_it(monkeypatch):
    for module in (nn.modules.linear, nn.modules.conv, nn.modules.rnn, nn.modules.sparse):
        monkeypatch.setattr(module, "init", init)
    torch.manual_seed(0)
    layers = [
        nn.Linear(30, 40),
        nn.Conv2d(3, 8, 3),
        nn.LSTM(4, 6),
        nn.Embedding(9, 5, padding_idx=2),
    ]
    assert layers[0].weight.abs().max() <= 1 / 30**0.5
    assert (layers[3].weight[2] == 0).all()
    again = copy.deepcopy(layers)
    torch.manual_seed(0)
    for layer in again:
        layer.reset_parameters()
    for a, b in zip(layers, again, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_inference_tensors_as_with_torch():
    with torch.inference_mode():
        inside = torch.empty(3)
        init.normal_(inside)
    with pytest.raises(RuntimeError, match="InferenceMode"):
        init.normal_(inside)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("normal_", (0.0, "1")),
        ("normal_", (None, 1.0)),
        ("normal_", (0.0, torch.ones(2))),
        ("uniform_", ("0", 1.0)),
        ("trunc_normal_", (0.0, "1")),
    ],
    ids=str,
)
def test_what_is_no_number_is_a_type_error(name, args):
    for module in (torch.nn.init, init):
        tensor = torch.zeros(4, 4)
        with pytest.raises(TypeError):
            getattr(module, name)(tensor, *args)
        assert not tensor.any()


@pytest.mark.parametrize("name", ["normal_", "trunc_normal_", "sparse_"])
def test_a_std_in_a_tensor_is_read_at_every_call(name):
    std = torch.tensor(1.0)
    first = (0.5,) if name == "sparse_" else (0.0,)

    def spread():
        return getattr(init, name)(torch.empty(100, 100), *first, std).abs().max()

    large = spread()
    std.fill_(1e-3)
    assert spread() < large / 100
