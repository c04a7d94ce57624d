"""Permutations, subsets and signs: valid, even, and drawn alone or together alike."""

import math

import pytest
import torch

from fanin.errors import SchemeError
from fanin.randomness import Address, choose, permutation, random_bits, signs


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


def test_bits():
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
