"""Permutations, subsets and signs: valid, even, and drawn alone or together alike."""

import math

import numpy as np
import pytest
import torch

from fanin.errors import SchemeError
from fanin.randomness import Address, choose, permutation, random_bits, signs
from fanin.randomness.arrays import TorchArrays
from fanin.randomness.choice import _smallest, choice_mask
from fanin.randomness.layout import Purpose, words_of_blocks


def chi_square_limit(cells: int) -> float:
    """A bound that a fair table of this many cells passes once in a million runs."""
    return cells + 4.8 * math.sqrt(2 * cells) + 16


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_permutation_is_one(n):
    assert sorted(permutation(Address(0, "p"), n).tolist()) == list(range(n))


def test_permutations_are_even():
    seen = torch.zeros(24)
    runs = 4800
    for seed in range(runs):
        order = permutation(Address(seed, "p"), 4).tolist()
        rank = sum(
            (sum(b < a for b in order[i:])) * f
            for i, (a, f) in enumerate(zip(order, (6, 2, 1, 0), strict=True))
        )
        seen[rank] += 1
    expected = runs / 24
    assert ((seen - expected) ** 2 / expected).sum() < chi_square_limit(23)


def specified_bits(address, start, count):
    """By the definition: block and words of each number, one by one."""
    numbers = []
    for index in range(start, start + count):
        block = torch.tensor([16 * (index // 32) + index % 16])
        words = words_of_blocks(TorchArrays(), address.key(), block, Purpose.BITS)
        high, low = (int(word) for word in words[2 * (index // 16 % 2) :][:2])
        numbers.append((high >> 1) << 32 | low)
    return numbers


@pytest.mark.parametrize("start", [0, 17, 2**33 - 40])
def test_bits_are_the_specification(start, each_kernel):
    address = Address(9, "bits")
    assert random_bits(address, start, 100).tolist() == specified_bits(address, start, 100)


def test_bits_across_pieces_and_threads(each_kernel, threads):
    threads(2)
    address, n = Address(9, "bits"), 300_001
    whole = random_bits(address, 5, n)
    for first, count in [(0, 1), (131_000, 200), (262_100, 100), (n - 3, 3)]:
        assert torch.equal(random_bits(address, 5 + first, count), whole[first : first + count])


def test_of_equal_numbers_the_first_are_chosen():
    numbers = np.array([[3, 1, 3, 3, 0], [2, 2, 2, 2, 2], [5, 4, 3, 2, 1]])
    assert _smallest(numbers, 3).tolist() == [
        [True, True, False, False, True],
        [True, True, True, False, False],
        [False, False, True, True, True],
    ]


@pytest.mark.parametrize(("rows", "length", "k"), [(5, 9, 4), (2, 300_000, 7), (900, 700, 350)])
def test_the_mask_is_the_choice(rows, length, k):
    mask = choice_mask(Address(4, "m"), rows, length, k)
    assert mask.shape == (rows, length)
    bits = random_bits(Address(4, "m"), 0, rows * length).view(rows, length)
    wanted = bits.argsort(dim=1)[:, :k].sort(dim=1).values
    assert torch.equal(mask.nonzero()[:, 1].view(rows, k), wanted)
    assert torch.equal(choose(Address(4, "m"), rows, length, k), wanted)


def test_choices_are_distinct_even_and_rowwise():
    rows, length, k = 4000, 10, 3
    chosen = choose(Address(1, "sparse"), rows, length, k)
    assert chosen.shape == (rows, k)
    assert (chosen[:, 1:] > chosen[:, :-1]).all()
    counts = torch.bincount(chosen.flatten(), minlength=length).double()
    expected = rows * k / length
    assert ((counts - expected) ** 2 / expected).sum() < chi_square_limit(length)
    # Any rows alone are those rows.
    part = choose(Address(1, "sparse"), 30, length, k, first_row=1234)
    assert torch.equal(part, chosen[1234:1264])


def test_choices_across_pieces():
    # Rows so long that each is a piece of its own, and rows that share pieces.
    address = Address(5, "long")
    for rows, length in [(3, 300_000), (3000, 200)]:
        whole = choose(address, rows, length, 5)
        alone = choose(address, 1, length, 5, first_row=rows - 1)
        assert torch.equal(whole[-1:], alone)


@pytest.mark.parametrize(("rows", "length", "k"), [(0, 5, 2), (3, 0, 0), (3, 4, 0), (3, 4, 4)])
def test_choice_edges(rows, length, k):
    chosen = choose(Address(0, "edge"), rows, length, k)
    assert chosen.shape == (rows, k)
    if k == length:
        assert torch.equal(chosen, torch.arange(length).expand(rows, length))


@pytest.mark.parametrize("arguments", [(3, 4, 5), (3, 4, -1), (-1, 4, 2), (3, -4, 0)])
def test_impossible_choices(arguments):
    with pytest.raises(SchemeError, match="cannot choose"):
        choose(Address(0, "x"), *arguments)


def test_signs():
    n = 100_000
    drawn = signs(Address(2, "s"), 0, n).double()
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    assert abs(drawn.mean()) < 5 / math.sqrt(n)
    assert torch.equal(signs(Address(2, "s"), 777, 50), drawn[777:827].to(torch.int8))


def test_bits(each_kernel):
    n = 200_000
    bits = random_bits(Address(3, "b"), 0, n)
    assert (bits >= 0).all()
    for place in (0, 31, 32, 62):
        ones = (bits >> place & 1).double().mean()
        assert abs(ones - 0.5) < 5 / (2 * math.sqrt(n)), place
    assert torch.equal(random_bits(Address(3, "b"), 12345, 99), bits[12345:12444])
    assert random_bits(Address(3, "b"), 5, 0).numel() == 0
    with pytest.raises(SchemeError):
        random_bits(Address(3, "b"), -1, 4)
