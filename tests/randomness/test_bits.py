"""One value at one address, whatever draws it, in whatever parts and order."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from draw_cases import DISTRIBUTIONS, DTYPES, same_bits

from fanin.randomness import (
    Address,
    NormalDistribution,
    Region,
    UniformDistribution,
    draw,
    draw_range,
    fill,
)
from fanin.randomness.arrays import NumpyArrays, TorchArrays
from fanin.randomness.specification import Specification

ADDRESS = Address(2**63 + 11, "blocks.0.attn.q_proj.weight")

each_distribution = pytest.mark.parametrize(
    "distribution", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS.keys()
)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def specified(distribution, dtype, start, count):
    program = Specification(TorchArrays(), distribution, ADDRESS.key(), dtype)
    return program.range(start, count).to(dtype)


@each_distribution
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_numpy_is_eager_torch(distribution, dtype):
    for start, count in [(0, 5000), (2**40 + 3, 333)]:
        program = Specification(NumpyArrays(), distribution, ADDRESS.key(), dtype)
        drawn = torch.from_numpy(program.range(start, count).copy())
        assert same_bits(drawn, specified(distribution, dtype, start, count))


@each_distribution
@each_dtype
def test_kernels_are_the_specification(distribution, dtype, each_kernel):
    # Starts and ends within tiles, at their edges, and where a block's number outgrows 32 bits.
    for start, count in [(0, 1), (0, 64), (3, 700), (31, 33), (2**34 - 500, 1000), (2**45, 129)]:
        drawn = draw_range(distribution, ADDRESS, start, count, dtype)
        assert same_bits(drawn, specified(distribution, dtype, start, count)), (start, count)


@each_distribution
@pytest.mark.parametrize("count", [1, 2, 7])
def test_threads_do_not_matter(distribution, count, each_kernel, threads):
    if each_kernel == "off":
        pytest.skip("the array program is torch's own to thread")
    threads(count)
    drawn = draw_range(distribution, ADDRESS, 5, 300_001, torch.bfloat16)
    assert same_bits(drawn, specified(distribution, torch.bfloat16, 5, 300_001))


@each_dtype
def test_chunks_in_any_order(dtype, each_kernel):
    whole = draw(DISTRIBUTIONS["normal"], ADDRESS, (5000,), dtype=dtype)
    pieces = torch.full_like(whole, math.nan)
    edges = [0, 1, 63, 64, 65, 1000, 1031, 4096, 4999, 5000]
    for start, end in reversed(list(pairwise(edges))):
        region = Region((5000,), (start,), (end - start,))
        fill(pieces[start:end], DISTRIBUTIONS["normal"], ADDRESS, region)
    assert same_bits(pieces, whole)


@each_dtype
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shards_along_any_axis(dtype, axis, each_kernel):
    shape = (6, 35, 18)
    distribution = DISTRIBUTIONS["truncated_2_sigma"]
    whole = draw(distribution, ADDRESS, shape, dtype=dtype)
    for start in range(0, shape[axis], 7):
        size = min(7, shape[axis] - start)
        region = Region.whole(shape).narrow(axis, start, size)
        shard = draw(distribution, ADDRESS, shape, dtype=dtype, region=region)
        assert same_bits(shard, whole.narrow(axis, start, size))


@each_dtype
@pytest.mark.parametrize("step", [(1, 1, 1), (2, 1, 1), (1, 3, 1), (1, 1, 5), (3, 2, 40)])
def test_strided_regions(dtype, step, each_kernel):
    shape, start, size = (11, 13, 97), (1, 2, 3), (3, 4, 2)
    region = Region(shape, start, size, step)
    whole = draw(DISTRIBUTIONS["uniform"], ADDRESS, shape, dtype=dtype)
    slices = tuple(slice(a, a + n * s, s) for a, n, s in zip(start, size, step, strict=True))
    drawn = draw(DISTRIBUTIONS["uniform"], ADDRESS, shape, dtype=dtype, region=region)
    assert same_bits(drawn, whole[slices])


def test_a_long_strided_run(each_kernel):
    for step in (2, 31, 33, 200):
        region = Region((300_000,), (5,), (1400,), (step,))
        drawn = draw(DISTRIBUTIONS["normal"], ADDRESS, (300_000,), region=region)
        whole = draw(DISTRIBUTIONS["normal"], ADDRESS, (300_000,))
        assert same_bits(drawn, whole[5 : 5 + 1400 * step : step])


@each_dtype
def test_targets_of_any_strides(dtype, each_kernel):
    shape = (5, 6, 70)
    distribution = DISTRIBUTIONS["normal"]
    whole = draw(distribution, ADDRESS, shape, dtype=dtype)
    storage = torch.full((70, 12, 11), 7.0, dtype=dtype)
    target = storage.permute(2, 1, 0)[1::2, ::2]
    fill(target, distribution, ADDRESS)
    assert same_bits(target, whole)
    # Not an element beside the target was touched.
    storage.permute(2, 1, 0)[1::2, ::2] = 7.0
    assert torch.equal(storage, torch.full_like(storage, 7.0))


def test_a_large_transposed_target(each_kernel, threads):
    threads(2)
    whole = draw(DISTRIBUTIONS["uniform"], ADDRESS, (700, 500))
    target = torch.empty(500, 700).t()
    fill(target, DISTRIBUTIONS["uniform"], ADDRESS)
    assert same_bits(target, whole)


def test_unaligned_memory(each_kernel):
    for dtype in DTYPES:
        storage = torch.zeros(1003, dtype=dtype)
        fill(storage[1:1002], DISTRIBUTIONS["normal"], ADDRESS)
        assert same_bits(
            storage[1:1002], draw(DISTRIBUTIONS["normal"], ADDRESS, (1001,), dtype=dtype)
        )
        assert storage[0] == 0
        assert storage[1002] == 0


def test_rounding_mode_and_flushing_do_not_matter(each_kernel):
    if each_kernel == "off":
        pytest.skip("eager torch follows torch.set_flush_denormal")
    # 1e-38 is near the smallest normal float32: most of these values are subnormal.
    distribution = NormalDistribution(0.0, 1e-39)
    wanted = draw(distribution, ADDRESS, (1000,))
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush")
    try:
        drawn = draw(distribution, ADDRESS, (1000,))
    finally:
        torch.set_flush_denormal(False)
    assert same_bits(drawn, wanted)
    assert wanted.count_nonzero() > 990


def test_half_precision_is_the_rounded_float32():
    for dtype in (torch.bfloat16, torch.float16):
        for name in ("normal", "normal_shifted"):
            single = draw(DISTRIBUTIONS[name], ADDRESS, (20_000,))
            assert same_bits(
                draw(DISTRIBUTIONS[name], ADDRESS, (20_000,), dtype=dtype), single.to(dtype)
            )


@pytest.mark.parametrize("std", [1e-7, 3e-6, 1e-4, 3e4, 1e5])
def test_float16_rounds_right_at_both_ends(std, each_kernel):
    """Subnormals, halfway cases and infinities of float16, against NumPy's conversion."""
    single = draw(NormalDistribution(0.0, std), ADDRESS, (50_000,)).numpy()
    drawn = draw(NormalDistribution(0.0, std), ADDRESS, (50_000,), dtype=torch.float16).numpy()
    with np.errstate(over="ignore"):
        assert np.array_equal(drawn, single.astype(np.float16))


def test_addresses_differ():
    normal = DISTRIBUTIONS["normal"]
    drawn = [
        draw(normal, Address(seed, name), (64,))
        for seed in (0, 1, 2**64 - 1)
        for name in ("a", "b", "ab", "")
    ]
    drawn += [draw(normal, Address(0, "a").child("x"), (64,))]
    for i, first in enumerate(drawn):
        for second in drawn[:i]:
            assert (first == second).sum() <= 1


def test_uniform_scale_near_the_smallest_numbers(each_kernel):
    """Where the kernel may not fold 2**-31 into the scale, the array program steps in."""
    distribution = UniformDistribution(-1e-35, 1e-35)
    assert same_bits(
        draw(distribution, ADDRESS, (500,)), specified(distribution, torch.float32, 0, 500)
    )
