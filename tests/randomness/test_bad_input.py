"""What cannot be filled is refused in words, and left as it was."""

import math

import pytest
import torch

from fanin.errors import SchemeError
from fanin.randomness import (
    Address,
    ConstantDistribution,
    NormalDistribution,
    Region,
    TruncatedNormalDistribution,
    UniformDistribution,
    draw,
    draw_range,
    fill,
)

NORMAL = NormalDistribution(0.0, 1.0)
ADDRESS = Address(0, "w")


@pytest.mark.parametrize(
    "dtype", [torch.int32, torch.int64, torch.bool, torch.uint8, torch.complex64], ids=str
)
def test_dtypes(dtype):
    target = torch.zeros(4, dtype=dtype)
    with pytest.raises(SchemeError, match="cannot draw random numbers as"):
        fill(target, NORMAL, ADDRESS)
    with pytest.raises(SchemeError, match="float32, bfloat16"):
        draw(NORMAL, ADDRESS, (4,), dtype=dtype)
    assert not target.any()


@pytest.mark.parametrize(
    "distribution", [NORMAL, ConstantDistribution(1.0)], ids=["normal", "constant"]
)
class TestTensorsThatCannotBeFilled:
    def test_meta(self, distribution):
        with pytest.raises(SchemeError, match="to_empty"):
            fill(torch.empty(3, device="meta"), distribution, ADDRESS)

    def test_fake(self, distribution):
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode():
            target = torch.empty(3)
        with pytest.raises(SchemeError, match="meta device"):
            fill(target, distribution, ADDRESS)

    def test_lazy(self, distribution):
        with pytest.raises(SchemeError, match="Run the module once"):
            fill(torch.nn.LazyLinear(3).weight, distribution, ADDRESS)

    def test_sparse(self, distribution):
        with pytest.raises(SchemeError, match="dense"):
            fill(torch.eye(3).to_sparse(), distribution, ADDRESS)

    @pytest.mark.parametrize(
        "target",
        [
            torch.zeros(1).expand(4),
            torch.zeros(3, 1).expand(3, 5),
            torch.zeros(6).as_strided((3, 3), (1, 1)),
            torch.zeros(9).as_strided((3, 2), (2, 2)),
        ],
        ids=["expanded", "expanded rows", "sliding", "interleaved"],
    )
    def test_overlapping(self, distribution, target):
        with pytest.raises(SchemeError, match="share memory"):
            fill(target, distribution, ADDRESS)
        assert not target.any()

    def test_wrong_region(self, distribution):
        target = torch.zeros(4)
        with pytest.raises(SchemeError, match="region of size"):
            fill(target, distribution, ADDRESS, Region((8,), (0,), (5,)))
        assert not target.any()


def test_region_of_another_tensor():
    with pytest.raises(SchemeError, match="whole tensor"):
        draw(NORMAL, ADDRESS, (9,), region=Region((8,), (0,), (5,)))


@pytest.mark.parametrize(
    "arguments",
    [((4,), (1,), (4,)), ((4,), (-1,), (2,)), ((4,), (0,), (3,), (2,)), ((4, 4), (0,), (3,))],
)
def test_regions_outside_the_tensor(arguments):
    with pytest.raises(SchemeError, match="does not lie"):
        Region(*arguments)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "0"])
def test_seeds(seed):
    with pytest.raises(SchemeError, match="seed"):
        Address(seed, "w")


def test_ranges():
    for start, count in [(-1, 4), (0, -1), (2**63 - 2, 2)]:
        with pytest.raises(SchemeError, match="elements"):
            draw_range(NORMAL, ADDRESS, start, count)
    assert draw_range(NORMAL, ADDRESS, 7, 0).numel() == 0


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (NormalDistribution, (0.0, -1.0)),
        (NormalDistribution, (math.nan, 1.0)),
        (NormalDistribution, (0.0, math.inf)),
        (UniformDistribution, (1.0, 0.0)),
        (UniformDistribution, (0.0, math.inf)),
        (UniformDistribution, (math.nan, 1.0)),
        (TruncatedNormalDistribution, (0.0, 1.0, 2.0, -2.0)),
        (TruncatedNormalDistribution, (0.0, 1.0, 1.0, 1.0)),
        (TruncatedNormalDistribution, (0.0, 0.0, -1.0, 1.0)),
        (TruncatedNormalDistribution, (0.0, 1.0, math.nan, 1.0)),
        (ConstantDistribution, (math.nan,)),
    ],
)
def test_impossible_distributions(kind, arguments):
    with pytest.raises(SchemeError, match=r"give|must"):
        kind(*arguments)


@pytest.mark.parametrize(
    ("distribution", "dtype"),
    [
        (UniformDistribution(-1e5, 1e5), torch.float16),
        (UniformDistribution(0, 1e39), torch.bfloat16),
        (NormalDistribution(1e39, 1.0), torch.float32),
        (NormalDistribution(0.0, 1e39), torch.bfloat16),
        (TruncatedNormalDistribution(0.0, 1e39, -1.0, math.inf), torch.float32),
        (TruncatedNormalDistribution(0.0, 1e-200, 1.0, 2.0), torch.float64),
    ],
    ids=str,
)
def test_distributions_too_large_for_the_dtype(distribution, dtype, each_kernel):
    target = torch.zeros(4, dtype=dtype)
    with pytest.raises(SchemeError, match=r"exceeds|does not fit|cannot be drawn"):
        fill(target, distribution, ADDRESS)
    assert not target.any()


def test_fine_all_the_same(each_kernel):
    """Odd targets that can be filled: none is refused, and each gets its numbers."""
    wanted = draw(NORMAL, ADDRESS, (6,))
    # A leaf that requires grad, without no_grad around it.
    leaf = torch.nn.Parameter(torch.zeros(6))
    version = leaf._version
    fill(leaf, NORMAL, ADDRESS)
    assert torch.equal(leaf, wanted)
    assert leaf.requires_grad
    assert leaf.grad_fn is None
    assert leaf._version > version
    # Imaginary parts of a conjugate carry a lazy minus sign.
    negative = torch.zeros(6, dtype=torch.complex64).conj().imag
    assert negative.is_neg()
    fill(negative, NORMAL, ADDRESS)
    assert torch.equal(negative, wanted)
    with torch.inference_mode():
        inferred = torch.zeros(6)
        fill(inferred, NORMAL, ADDRESS)
    assert torch.equal(inferred, wanted)
    # Nothing to write, and a scalar.
    fill(torch.zeros(0, 5), NORMAL, ADDRESS)
    fill(torch.zeros(0, 5).t(), NORMAL, ADDRESS)
    scalar = torch.zeros(())
    fill(scalar, NORMAL, ADDRESS)
    assert scalar == wanted[0]
    constant = torch.zeros(2, 3).t()
    fill(constant, ConstantDistribution(2.5), ADDRESS)
    assert (constant == 2.5).all()


def test_saved_tensors_are_still_guarded(each_kernel):
    """Writing under autograd's feet is found out, as after any in-place operation of torch."""
    weight = torch.ones(3, requires_grad=True)
    scale = torch.ones(3)
    out = (weight * scale).sum()
    fill(scale, NORMAL, ADDRESS)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()
