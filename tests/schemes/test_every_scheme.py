"""What every scheme must do, on every layout that it accepts."""

import math

import pytest
import torch
from scheme_cases import ALL, LAYOUTS

from fanin.axes import Axes
from fanin.errors import SchemeError
from fanin.randomness import Address, Region
from fanin.schemes import Blockwise, ElementwiseScheme, Scheme, scheme, scheme_from_json

ADDRESS = Address(7, "layer.weight")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

each_scheme = pytest.mark.parametrize("value", ALL, ids=repr)
each_layout = pytest.mark.parametrize("layout", LAYOUTS)


def drawn(value: Scheme, layout: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    shape, axes = LAYOUTS[layout]
    tensor = torch.full(shape, float("nan"), dtype=dtype)
    value.fill(tensor, axes, ADDRESS)
    return tensor


def accepted(value: Scheme) -> list[str]:
    names = []
    for name, (shape, axes) in LAYOUTS.items():
        try:
            value.expected(shape, axes)
        except SchemeError:
            continue
        names.append(name)
    return names


@each_scheme
def test_repr_evaluates_back(value: Scheme):
    assert scheme(repr(value)) == value
    assert hash(scheme(repr(value))) == hash(value)


@each_scheme
def test_json_round_trip(value: Scheme):
    import json

    assert scheme_from_json(json.loads(json.dumps(value.to_json()))) == value


@each_scheme
def test_docstring_says_what_it_draws_and_for_what(value: Scheme):
    text = type(value).__doc__ or ""
    assert len(text) > 80
    assert "Use:" in text or type(value).__name__ == "Function"


@each_scheme
def test_accepts_some_layout(value: Scheme):
    assert accepted(value)


@each_scheme
@each_layout
def test_moments_or_a_clear_error(value: Scheme, layout: str):
    shape, axes = LAYOUTS[layout]
    try:
        moments = value.expected(shape, axes)
    except SchemeError as error:
        message = str(error)
        assert message.endswith(".")
        tensor = torch.full(shape, 5.0)
        with pytest.raises(SchemeError):
            value.fill(tensor, axes, ADDRESS)
        assert (tensor == 5.0).all()
        return
    tensor = drawn(value, layout).double()
    assert tensor.isfinite().all()
    n = tensor.numel()
    # Five standard errors of the mean, and of the std for a kurtosis of up to 3.5 (a normal with
    # one element in ten set to zero has 3.3).
    assert abs(tensor.mean().item() - moments.mean) <= 5 * moments.std / math.sqrt(n) + 1e-6
    std = tensor.std(correction=0).item()
    assert abs(std - moments.std) <= 5 * moments.std * math.sqrt(2.5 / (4 * n)) + 1e-6


@each_scheme
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bounds_are_never_crossed(value: Scheme, dtype: torch.dtype):
    layout = accepted(value)[0]
    shape, axes = LAYOUTS[layout]
    moments = value.expected(shape, axes)
    tensor = drawn(value, layout, dtype)
    assert tensor.isfinite().all()
    # In the tensor's own dtype: a bound that it cannot hold is rounded like every value.
    if moments.low is not None:
        assert tensor.min() >= torch.tensor(moments.low, dtype=dtype) - _slack(value, moments.low)
    if moments.high is not None:
        assert tensor.max() <= torch.tensor(moments.high, dtype=dtype) + _slack(value, moments.high)


def _slack(value: Scheme, bound: float) -> float:
    # Elements of an orthogonal matrix are computed, not drawn: rounding counts there.
    exact = isinstance(value, (ElementwiseScheme, Blockwise))
    return 0.0 if exact else 1e-5 * abs(bound)


@each_scheme
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_has_the_same_values_up_to_rounding(value: Scheme, dtype: torch.dtype):
    layout = accepted(value)[0]
    a = drawn(value, layout, torch.float32).double()
    b = drawn(value, layout, dtype).double()
    if dtype == torch.float64:
        # A path of its own: other numbers of the same law. The moments say that it is drawn.
        shape, axes = LAYOUTS[layout]
        std = value.expected(shape, axes).std
        assert (
            abs(b.std(correction=0).item() - std) <= 5 * std * math.sqrt(0.625 / b.numel()) + 1e-9
        )
        return
    eps = torch.finfo(dtype).eps
    assert (a - b).abs().max() <= eps * a.abs().max()


@each_scheme
@each_layout
def test_slices_equal_the_whole(value: Scheme, layout: str):
    if layout not in accepted(value):
        return
    shape, axes = LAYOUTS[layout]
    whole = drawn(value, layout)
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        start, size, step = [], [], []
        for n in shape:
            first, stride = (int(torch.randint(k, (), generator=generator)) for k in (n, 3))
            room = (n - first - 1) // (stride + 1) + 1
            start.append(first)
            step.append(stride + 1)
            size.append(int(torch.randint(room + 1, (), generator=generator)))
        region = Region(shape, tuple(start), tuple(size), tuple(step))
        part = torch.full(size, float("nan"))
        value.fill(part, axes, ADDRESS, region)
        picks = tuple(slice(a, a + n * s, s) for a, n, s in zip(start, size, step, strict=True))
        assert torch.equal(part, whole[picks])


@each_scheme
def test_another_name_or_seed_gives_other_numbers(value: Scheme):
    layout = accepted(value)[0]
    shape, axes = LAYOUTS[layout]
    again, other = torch.empty(shape), torch.empty(shape)
    value.fill(again, axes, Address(7, "layer.weight"))
    value.fill(other, axes, Address(8, "layer.weight"))
    assert torch.equal(again, drawn(value, layout))
    deterministic = {"Zeros", "Ones", "Constant", "Identity", "Dirac", "Sinusoidal", "Function"}
    name = type(value).__name__
    assert torch.equal(again, other) == (name in deterministic)


@each_scheme
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (4, 0, 3, 3)])
def test_a_tensor_without_elements_is_left_alone(value: Scheme, shape: tuple[int, ...]):
    axes = Axes(0, 1, tuple(range(2, len(shape))))
    if isinstance(value, Blockwise) or type(value).__name__ == "ChronoBias":
        with pytest.raises(SchemeError):
            value.fill(torch.empty(shape), axes, ADDRESS)
        return
    value.fill(torch.empty(shape), axes, ADDRESS)
    if type(value).__name__ != "Function":
        assert value.expected(shape, axes).std == 0


@each_scheme
def test_strides_and_gradients_do_not_matter(value: Scheme):
    layout = accepted(value)[0]
    shape, axes = LAYOUTS[layout]
    strided = torch.nn.Parameter(torch.zeros(*shape, 2)[..., 0].transpose(0, -1).transpose(0, -1))
    before = strided._version
    value.fill(strided, axes, ADDRESS)
    assert torch.equal(strided.detach(), drawn(value, layout))
    assert strided.requires_grad
    assert strided.grad_fn is None
    # Autograd must notice that the values have changed.
    assert strided._version > before


@each_scheme
def test_impossible_targets_are_refused(value: Scheme):
    layout = accepted(value)[0]
    shape, axes = LAYOUTS[layout]
    first = shape[0]
    expanded = torch.zeros(1, *shape[1:]).expand(shape)
    refused = {
        "meta": torch.empty(shape, device="meta"),
        "int64": torch.zeros(shape, dtype=torch.int64),
        "complex64": torch.zeros(shape, dtype=torch.complex64),
        "memory location": expanded,
    }
    for word, tensor in refused.items():
        with pytest.raises(SchemeError, match=word):
            value.fill(tensor, axes, ADDRESS)
    with pytest.raises(SchemeError, match="lazy"):
        value.fill(torch.nn.UninitializedParameter(), axes, ADDRESS)
    half = torch.zeros(first // 2, *shape[1:])
    with pytest.raises(SchemeError, match="cannot hold the region"):
        value.fill(half, axes, ADDRESS, Region.whole(shape))
    target = torch.full(shape, 5.0)
    with pytest.raises(SchemeError, match="does not name each"):
        value.fill(target, Axes(0, 1, (2, 3, 4, 5)), ADDRESS)
    assert (target == 5.0).all()


@each_scheme
def test_torchs_generator_is_left_alone(value: Scheme):
    before = torch.get_rng_state()
    drawn(value, accepted(value)[0])
    assert torch.equal(torch.get_rng_state(), before)
