"""fanin.init beside torch.nn.init: names, signatures, errors, warnings, laws of the values."""

import inspect
import math
import warnings

import pytest
import torch
from scipy import stats

import fanin.init as ours

import torch.nn.init as torchs  # isort: skip
from fanin.errors import FaninError

NAMES = [*torchs.__all__, "_calculate_fan_in_and_fan_out", "_calculate_correct_fan"]
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def outcome(function, *args, **kwargs):
    """Return value or error, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = function(*args, **kwargs)
        except Exception as error:
            value = error
    return value, [(w.category, str(w.message)) for w in caught]


def test_every_public_name_is_there():
    assert set(torchs.__all__) <= set(ours.__all__)
    public = {
        n
        for n, f in vars(torchs).items()
        if inspect.isfunction(f) and f.__module__ == torchs.__name__
    }
    assert {n for n in public if not n.startswith("_")} <= set(ours.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_torchs(name):
    mine, reference = (
        inspect.signature(getattr(ours, name)),
        inspect.signature(getattr(torchs, name)),
    )
    assert [(p.name, p.kind, p.default) for p in mine.parameters.values()] == [
        (p.name, p.kind, p.default) for p in reference.parameters.values()
    ]
    assert getattr(ours, name).__name__ == name


@pytest.mark.parametrize("param", [None, 0, 0.01, 0.2, 1, 10, -0.5])
@pytest.mark.parametrize(
    "name",
    [
        "linear",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "sigmoid",
        "tanh",
        "relu",
        "leaky_relu",
        "selu",
    ],
)
def test_calculate_gain(name, param):
    assert ours.calculate_gain(name, param) == torchs.calculate_gain(name, param)


# Arguments of every kind that torch refuses, or takes in a way worth holding on to.
CALLS = {
    "gain of nothing": ("calculate_gain", ("gelu",), {}),
    "gain of conv4d": ("calculate_gain", ("conv4d",), {}),
    "gain slope": ("calculate_gain", ("leaky_relu", True), {}),
    "gain slope text": ("calculate_gain", ("leaky_relu", "0.1"), {}),
    "integers": ("normal_", (torch.zeros(3, dtype=torch.int64),), {}),
    "integers uniform": ("uniform_", (torch.zeros(3, dtype=torch.int32),), {}),
    "integers truncated": ("trunc_normal_", (torch.zeros(3, dtype=torch.int64),), {}),
    "integers orthogonal": ("orthogonal_", (torch.zeros(3, 3, dtype=torch.int64),), {}),
    "integers kaiming": ("kaiming_normal_", (torch.zeros(3, 3, dtype=torch.int64),), {}),
    "integers sparse": ("sparse_", (torch.zeros(3, 3, dtype=torch.int64), 0.1), {}),
    "integers constant": ("constant_", (torch.zeros(3, dtype=torch.int64), 2), {}),
    "integers ones": ("ones_", (torch.zeros(3, dtype=torch.int64),), {}),
    "integers eye": ("eye_", (torch.zeros(3, 3, dtype=torch.int64),), {}),
    "integers dirac": ("dirac_", (torch.zeros(3, 3, 3, dtype=torch.int64),), {}),
    "booleans": ("uniform_", (torch.zeros(3, dtype=torch.bool),), {}),
    "complex truncated": ("trunc_normal_", (torch.zeros(3, dtype=torch.complex64),), {}),
    "complex orthogonal": ("orthogonal_", (torch.zeros(3, 3, dtype=torch.complex64),), {}),
    "sparse layout": ("normal_", (torch.zeros(2, 2).to_sparse(),), {}),
    "float8": ("normal_", (torch.zeros(3).to(torch.float8_e4m3fn),), {}),
    "expanded": ("normal_", (torch.zeros(3, 1).expand(3, 4),), {}),
    "expanded uniform": ("uniform_", (torch.zeros(3, 1).expand(3, 4),), {}),
    "expanded truncated": ("trunc_normal_", (torch.zeros(3, 1).expand(3, 4),), {}),
    "expanded orthogonal": ("orthogonal_", (torch.zeros(3, 1).expand(3, 4),), {}),
    "expanded constant": ("constant_", (torch.zeros(3, 1).expand(3, 4), 2.0), {}),
    "negative std": ("normal_", (torch.zeros(3), 0, -1), {}),
    "nan std": ("normal_", (torch.zeros(3), 0, float("nan")), {}),
    "negative gain": ("xavier_normal_", (torch.zeros(3, 3), -1), {}),
    "negative gain uniform": ("xavier_uniform_", (torch.zeros(3, 3), -1), {}),
    "reversed": ("uniform_", (torch.zeros(3), 1, 0), {}),
    "equal": ("uniform_", (torch.zeros(3), 1, 1), {}),
    "nan bound": ("uniform_", (torch.zeros(3), float("nan"), 1), {}),
    "infinite bound": ("uniform_", (torch.zeros(3), 0, float("inf")), {}),
    "too wide": ("uniform_", (torch.zeros(3), -3e38, 3e38), {}),
    "too large for half": ("uniform_", (torch.zeros(3, dtype=torch.float16), -1e5, 1e5), {}),
    "reversed truncated": ("trunc_normal_", (torch.zeros(3), 0, 1, 2, -2), {}),
    "truncated without std": ("trunc_normal_", (torch.zeros(3), 0, 0), {}),
    "truncated to a point": ("trunc_normal_", (torch.zeros(3), 0, 1, 1, 1), {}),
    "truncated far away": ("trunc_normal_", (torch.zeros(3), 5.0), {}),
    "truncated without bounds": ("trunc_normal_", (torch.zeros(3), 0, 1, -math.inf, math.inf), {}),
    "sparse negative std": ("sparse_", (torch.zeros(3, 3), 0.1, -1), {}),
    "sparse all": ("sparse_", (torch.zeros(3, 3), 2.0), {}),
    "sparse none": ("sparse_", (torch.zeros(3, 3), 0.0), {}),
    "text": ("constant_", (torch.zeros(3), "a"), {}),
    "no tensor": ("normal_", ([1, 2],), {}),
    "no generator": ("normal_", (torch.zeros(3),), {"generator": 3}),
    "mode": ("kaiming_normal_", (torch.zeros(3, 3),), {"mode": "avg"}),
    "mode upper": ("kaiming_normal_", (torch.zeros(3, 3),), {"mode": "FAN_OUT"}),
    "mode number": ("kaiming_uniform_", (torch.zeros(3, 3),), {"mode": 3}),
    "nonlinearity": ("kaiming_normal_", (torch.zeros(3, 3),), {"nonlinearity": "gelu"}),
    "dirac groups": ("dirac_", (torch.zeros(4, 3, 3), 3), {}),
    "dirac no groups": ("dirac_", (torch.zeros(4, 3, 3), 0), {}),
    "dirac 2d": ("dirac_", (torch.zeros(3, 3),), {}),
    "dirac 6d": ("dirac_", (torch.zeros(1, 1, 1, 1, 1, 1),), {}),
    "eye 1d": ("eye_", (torch.zeros(3),), {}),
    "eye 3d": ("eye_", (torch.zeros(3, 3, 3),), {}),
    "orthogonal 1d": ("orthogonal_", (torch.zeros(3),), {}),
    "sparse 3d": ("sparse_", (torch.zeros(3, 3, 3), 0.1), {}),
    "xavier 1d": ("xavier_uniform_", (torch.zeros(3),), {}),
    "xavier normal 0d": ("xavier_normal_", (torch.zeros(()),), {}),
    "kaiming 1d": ("kaiming_uniform_", (torch.zeros(3),), {}),
    "xavier of nothing": ("xavier_normal_", (torch.zeros(0, 0),), {}),
    "xavier without inputs": ("xavier_normal_", (torch.zeros(3, 0),), {}),
    "kaiming of nothing": ("kaiming_normal_", (torch.zeros(0, 3),), {}),
    "kaiming uniform of nothing": ("kaiming_uniform_", (torch.zeros(3, 0),), {}),
    "orthogonal of nothing": ("orthogonal_", (torch.zeros(0, 3),), {}),
    "sparse of nothing": ("sparse_", (torch.zeros(0, 3), 0.1), {}),
    "dirac of nothing": ("dirac_", (torch.zeros(0, 3, 3),), {}),
    "eye of nothing": ("eye_", (torch.zeros(0, 3),), {}),
    "normal of nothing": ("normal_", (torch.zeros(0),), {}),
    "truncated of nothing": ("trunc_normal_", (torch.zeros(0),), {}),
    "scalar": ("normal_", (torch.zeros(()),), {}),
    "old name": ("kaiming_normal", (torch.zeros(3, 3),), {"a": 0.1}),
    "old constant": ("constant", (torch.zeros(3, 3), 1.0), {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
def test_errors_warnings_and_return_values_are_torchs(case):
    name, args, kwargs = CALLS[case]
    copies = [tuple(a.clone() if _cloneable(a) else a for a in args) for _ in range(2)]
    mine, my_warnings = outcome(getattr(ours, name), *copies[0], **kwargs)
    reference, its_warnings = outcome(getattr(torchs, name), *copies[1], **kwargs)
    assert my_warnings == its_warnings
    if isinstance(reference, Exception):
        # Whatever handler catches torch's error catches ours.
        assert isinstance(mine, type(reference)), (mine, reference)
        if type(reference) in (ValueError, RuntimeError):
            assert str(mine).split(".")[0][:40] == str(reference).split(".")[0][:40]
        return
    assert not isinstance(mine, Exception), mine
    assert mine is copies[0][0]
    assert mine.shape == reference.shape
    assert mine.dtype == reference.dtype


def _cloneable(value):
    # clone() would take the overlap away.
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and (value.is_contiguous() and value.dtype != torch.float8_e4m3fn)
    )


@pytest.mark.parametrize("case", [c for c in CALLS if "text" not in c and "no " not in c])
def test_refused_tensors_are_untouched(case):
    name, args, kwargs = CALLS[case]
    if not isinstance(args[0], torch.Tensor) or args[0].layout != torch.strided:
        return
    args = tuple(a.clone() if _cloneable(a) else a for a in args)
    before = args[0].clone()
    result, _ = outcome(getattr(ours, name), *args, **kwargs)
    if isinstance(result, Exception):
        assert isinstance(result, (FaninError, TypeError, AttributeError))
        assert args[0].tolist() == before.tolist()


def test_where_torch_is_silent_and_this_is_not():
    for call in (
        lambda: ours.trunc_normal_(torch.zeros(3), 0, -1),
        lambda: ours.sparse_(torch.zeros(3, 3), -0.5),
        lambda: ours.normal_(torch.zeros(3), 0, float("inf")),
    ):
        with pytest.raises(FaninError):
            call()


def test_where_torch_fails_and_this_works():
    w = ours.orthogonal_(torch.empty(64, 64, dtype=torch.bfloat16)).double()
    assert (w.T @ w - torch.eye(64)).abs().max() < 2**-8
    strided = ours.orthogonal_(torch.empty(3, 4, 5).transpose(1, 2)).double()
    flat = strided.reshape(3, 20)
    torch.testing.assert_close(flat @ flat.T, torch.eye(3).double(), rtol=0, atol=1e-6)
    with pytest.warns(UserWarning, match="more than 2 std"):
        tail = ours.trunc_normal_(torch.empty(1000), a=6.0, b=math.inf)
    assert tail.min() >= 6


def _fans(shape):
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def _xavier(shape):
    return 2 * math.sqrt(2 / sum(_fans(shape)))


def _around_zero(bound):
    return stats.uniform(-bound, 2 * bound)


LAWS = {
    "uniform_": ({"a": -1.0, "b": 3.0}, lambda shape: stats.uniform(-1, 4)),
    "normal_": ({"mean": 2.0, "std": 0.5}, lambda shape: stats.norm(2, 0.5)),
    "trunc_normal_": ({"std": 1.5}, lambda shape: stats.truncnorm(-2 / 1.5, 2 / 1.5, scale=1.5)),
    "xavier_uniform_": ({"gain": 2.0}, lambda shape: _around_zero(math.sqrt(3) * _xavier(shape))),
    "xavier_normal_": ({"gain": 2.0}, lambda shape: stats.norm(0, _xavier(shape))),
    "kaiming_uniform_": (
        {"a": math.sqrt(5)},
        lambda shape: _around_zero(1 / math.sqrt(_fans(shape)[0])),
    ),
    "kaiming_normal_": (
        {"mode": "fan_out", "nonlinearity": "relu"},
        lambda shape: stats.norm(0, math.sqrt(2 / _fans(shape)[1])),
    ),
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(120, 90), (40, 20, 3, 3)], ids=str)
@pytest.mark.parametrize("name", LAWS)
def test_law_of_the_values(name, shape, dtype):
    torch.manual_seed(0)
    arguments, law = LAWS[name]
    values = getattr(ours, name)(torch.empty(shape, dtype=dtype), **arguments).double().flatten()
    # Rounding to few bits steps the distribution by up to eps of the largest density; half a step.
    steps = {torch.bfloat16: 0.004, torch.float16: 0.001}.get(dtype, 0.0)
    distance = stats.kstest(values.numpy(), law(shape).cdf).statistic
    # 1e-6 quantile of Kolmogorov's law: 2.7/√n.
    assert distance < 2.7 / math.sqrt(values.numel()) + steps


def test_orthogonal_is_haar_as_torchs_is():
    torch.manual_seed(0)
    mine = [ours.orthogonal_(torch.empty(5, 5)).trace().item() for _ in range(600)]
    reference = [torchs.orthogonal_(torch.empty(5, 5)).trace().item() for _ in range(600)]
    assert stats.ks_2samp(mine, reference).pvalue > 1e-4


def test_sparse_zeroes_in_columns_as_torch_does():
    w = ours.sparse_(torch.empty(50, 30), 0.25, std=2.0)
    assert ((w == 0).sum(0) == 13).all()
    assert w[w != 0].std().item() == pytest.approx(2.0, rel=5 / math.sqrt(2 * 1110))


@pytest.mark.parametrize("name", ["eye_", "ones_", "zeros_"])
def test_constants_equal_torchs(name):
    for dtype in (*FLOATS, torch.int64, torch.complex64):
        a, b = (torch.full((3, 5), 7).to(dtype) for _ in range(2))
        assert torch.equal(getattr(ours, name)(a), getattr(torchs, name)(b))


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("shape", [(6, 2, 3), (6, 4, 2, 5), (12, 3, 1, 2, 3)])
def test_dirac_equals_torchs(shape, groups):
    a, b = torch.empty(shape), torch.empty(shape)
    assert torch.equal(ours.dirac_(a, groups), torchs.dirac_(b, groups))


def test_complex_as_torch_draws_it():
    torch.manual_seed(0)
    z = ours.normal_(torch.empty(40_000, dtype=torch.complex64), mean=1.0, std=2.0)
    for part, mean in ((z.real, 1.0), (z.imag, 0.0)):
        assert part.mean().item() == pytest.approx(mean, abs=5 * math.sqrt(2 / 40_000))
        assert part.std().item() == pytest.approx(math.sqrt(2), rel=5 / math.sqrt(80_000))
    u = ours.uniform_(torch.empty(1000, dtype=torch.complex128), -1, 1)
    assert u.real.min() < -0.9 < u.imag.min() + 0.1
