"""The short way of plain tensors: what the general way gives, and nothing that it must not take."""

import pytest
import torch

from fanin import init
from fanin.errors import FaninError
from fanin.init.quick import filled_quickly, normal_constants, uniform_constants
from fanin.randomness import Address
from fanin.randomness.kernel import kernels
from fanin.schemes.haar import haar

compiled = pytest.mark.skipif(kernels() == ["off"], reason="no compiled kernel here")
NORMAL = normal_constants(0.0, 1.0, torch.float32)
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def drawn(function, tensor, *args):
    torch.manual_seed(11)
    function(tensor, *args)
    return tensor, torch.get_rng_state()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("function", "args"),
    [
        (init.normal_, (0.3, 0.02)),
        (init.normal_, (-0.0, 0)),
        (init.uniform_, (-0.5, 2)),
        (init.uniform_, (1.0, 1.0)),
        (init.kaiming_uniform_, ()),
        (init.xavier_normal_, ()),
        (init.orthogonal_, (1.5,)),
        (init.sparse_, (0.4,)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@pytest.mark.parametrize("shape", [(5, 7), (70, 40), (40, 70), (1, 1)], ids=str)
def test_a_plain_tensor_holds_what_a_view_holds(function, args, dtype, shape):
    plain, after = drawn(function, torch.empty(shape, dtype=dtype), *args)
    general, after_general = drawn(function, torch.empty(*shape, 2, dtype=dtype)[..., 1], *args)
    assert torch.equal(plain, general)
    assert torch.equal(plain.signbit(), general.signbit())
    assert torch.equal(after, after_general)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (9, 4), (4, 9), (256, 3, 3, 3), (300, 256)], ids=str)
@pytest.mark.parametrize("gain", [1, -1.7])
def test_orthogonal_is_the_addressed_one(shape, gain, dtype):
    generator = torch.Generator().manual_seed(3)
    seed = int(torch.empty((), dtype=torch.int64).random_(generator=generator))
    made = init.orthogonal_(torch.empty(shape, dtype=dtype), gain, generator.manual_seed(3))
    columns = made[0].numel()
    wanted = haar(Address(seed, ""), 0, 1, shape[0], columns, dtype)[0] * gain
    assert torch.equal(made.view(shape[0], columns), wanted)


@compiled
@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(4, 6).t(),
        torch.zeros(1).expand(1, 3),
        torch.zeros(2, device="meta"),
        torch._neg_view(torch.zeros(4)),
        torch.zeros(3).to_sparse(),
        torch.zeros(3).as_subclass(type("Mine", (torch.Tensor,), {})),
    ],
    ids=["transposed", "expanded", "meta", "negated", "sparse", "subclass"],
)
def test_what_is_not_plain_is_left_to_the_general_way(tensor):
    state = torch.get_rng_state()
    assert not filled_quickly(tensor, NORMAL, None)
    assert torch.equal(torch.get_rng_state(), state)
    assert tensor.is_meta or not tensor.to_dense().any()


@compiled
def test_inference_tensors_keep_their_guard():
    with torch.inference_mode():
        tensor = torch.zeros(4)
        assert init.normal_(tensor).any()
        before = tensor.clone()
    with pytest.raises(FaninError, match="inference"):
        init.normal_(tensor)
    assert torch.equal(tensor, before)


def test_what_cannot_be_drawn_has_no_constants():
    assert normal_constants(0.0, -1.0, torch.float32) is None
    assert normal_constants(float("nan"), 1.0, torch.float32) is None
    assert normal_constants(0.0, 1.0, torch.int64) is None
    assert uniform_constants(1.0, 0.0, torch.float32) is None
    # Within float32 each, but not their distance, which torch refuses.
    assert uniform_constants(-3e38, 3e38, torch.float32) is None
    assert uniform_constants(0.0, 1e5, torch.float16) is None


@compiled
def test_torch_transforms_are_refused_not_corrupted():
    """A batched tensor of vmap has no memory of its own: an error, and nothing written."""
    base = torch.zeros(3, 4)
    with pytest.raises(RuntimeError):
        torch.func.vmap(init.normal_)(base)
    assert not base.any()
