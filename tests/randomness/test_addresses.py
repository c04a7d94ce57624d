"""64-bit addresses, by arithmetic: no tensor here is large."""

import pytest
import torch
from draw_cases import DTYPES, same_bits

from fanin.randomness import Address, NormalDistribution, Region, draw, draw_range, fill

NORMAL = NormalDistribution(0.0, 1.0)
ADDRESS = Address(9, "embedding.weight")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_windows_of_a_huge_tensor(dtype, each_kernel):
    # 2**50 rows would be an exabyte; three rows of it are three rows.
    shape = (2**50, 300)
    region = Region(shape, (2**50 - 3, 0), (3, 300))
    rows = draw(NORMAL, ADDRESS, shape, dtype=dtype, region=region)
    window = draw_range(NORMAL, ADDRESS, (2**50 - 3) * 300, 900, dtype)
    assert same_bits(rows.flatten(), window)
    column = Region(shape, (2**49, 17), (40, 2), (2**40, 11))
    drawn = draw(NORMAL, ADDRESS, shape, dtype=dtype, region=column)
    for i in (0, 1, 39):
        for j in (0, 1):
            index = (2**49 + i * 2**40) * 300 + 17 + 11 * j
            assert same_bits(drawn[i, j : j + 1], draw_range(NORMAL, ADDRESS, index, 1, dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nothing_repeats_where_32_bits_would(dtype, each_kernel):
    start = draw_range(NORMAL, ADDRESS, 0, 256, dtype)
    for power in (31, 32, 33, 34, 37, 38, 62):
        there = draw_range(NORMAL, ADDRESS, 2**power, 256, dtype)
        # bfloat16 has few enough numbers for some to coincide.
        assert (there == start).sum() < 20, power


def test_the_carry_between_counter_words(each_kernel):
    # Block 2**32 holds element 2**34; its tile begins there.
    for edge in (2**34, 2**35, 2**33):
        across = draw_range(NORMAL, ADDRESS, edge - 100, 200)
        assert same_bits(across[:100], draw_range(NORMAL, ADDRESS, edge - 100, 100))
        assert same_bits(across[100:], draw_range(NORMAL, ADDRESS, edge, 100))


def test_keys_do_not_collide():
    keys = {Address(s, f"layers.{i}.weight").key() for s in range(20) for i in range(2000)}
    assert len(keys) == 40_000
    # The name's end and the seed cannot be confused, nor a child with a sibling.
    assert Address(0, "a").child("b").key() != Address(0, "ab").key()
    assert Address(0, "a").child("b") != Address(0, "a").child("c")


@pytest.mark.parametrize("name", ["", "ünï.çødé", "x" * 10_000, "a\nb", "\x00"])
def test_odd_names(name):
    assert draw(NORMAL, Address(0, name), (5,)).isfinite().all()


def test_regions():
    region = Region((10, 20), (2, 4), (5, 3), (1, 2))
    assert region.first() == 44
    assert region.element_steps() == (20, 2)
    assert region.count() == 15
    assert not region.is_run()
    assert not region.is_whole()
    assert Region.whole((3, 4)).is_run()
    assert Region((3, 4), (1, 0), (2, 4)).is_run()
    assert Region((3, 4), (1, 1), (1, 3)).is_run()
    assert not Region((3, 4), (0, 0), (2, 3)).is_run()
    assert region.narrow(1, 1, 2).start == (2, 6)
    assert Region((0, 4), (0, 0), (0, 4)).count() == 0


def test_regions_of_scalars_and_single_rows(each_kernel):
    scalar = torch.zeros(())
    fill(scalar, NORMAL, ADDRESS, Region((), (), ()))
    assert scalar == draw(NORMAL, ADDRESS, (1,))[0]
    whole = draw(NORMAL, ADDRESS, (4, 5))
    row = torch.zeros(1, 5)
    fill(row, NORMAL, ADDRESS, Region((4, 5), (2, 0), (1, 5)))
    assert torch.equal(row, whole[2:3])
