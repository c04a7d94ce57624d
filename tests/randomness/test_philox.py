"""Philox against the answers that its authors published (Random123, kat_vectors)."""

import numpy as np
import pytest
import torch

from fanin.randomness.arrays import NumpyArrays, TorchArrays
from fanin.randomness.layout import Purpose, block_of, slot_of, tile_words
from fanin.randomness.philox import ROUNDS, philox

ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
KNOWN = [
    (7, (0, 0, 0, 0), (0, 0), "5f6fb709 0d893f64 4f121f81 4f730a48"),
    (7, (ONES,) * 4, (ONES, ONES), "5207ddc2 45165e59 4d8ee751 8c52f662"),
    (7, PI, (0xA4093822, 0x299F31D0), "4dfccaba 190a87f0 c47362ba b6b5242a"),
    (10, (0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (10, (ONES,) * 4, (ONES, ONES), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (10, PI, (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("rounds", "counter", "key", "answer"), KNOWN)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_known_answers(rounds, counter, key, answer, library):
    xp = NumpyArrays() if library == "numpy" else TorchArrays()
    make = np.array if library == "numpy" else torch.tensor
    words = philox(xp, tuple(make([c]) for c in counter), key[0] | key[1] << 32, rounds)
    assert " ".join(f"{int(word[0]):08x}" for word in words) == answer


def plain_philox(block: int, purpose: int, key: int) -> list[int]:
    """The published algorithm in Python's integers, sharing nothing with the code."""
    c = [block & ONES, block >> 32, purpose, 0]
    k = [key & ONES, key >> 32]
    for _ in range(ROUNDS):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & ONES, (p0 >> 32) ^ c[3] ^ k[1], p0 & ONES]
        k = [(k[0] + 0x9E3779B9) & ONES, (k[1] + 0xBB67AE85) & ONES]
    return c


@pytest.mark.parametrize("index", [0, 15, 16, 63, 64, 1000003, 2**32 - 1, 2**34 + 17, 2**62 + 5])
def test_layout_of_one_word_elements(index):
    block, slot = int(block_of(np.int64(index), 4)), int(slot_of(np.int64(index), 4))
    assert block == 16 * (index // 64) + index % 16
    assert slot == index // 16 % 4
    tile = tile_words(NumpyArrays(), 77, index // 64, 1, Purpose.SINGLE)
    assert int(tile[slot][0, index % 16]) == plain_philox(block, 0, 77)[slot]


@pytest.mark.parametrize("index", [0, 15, 16, 31, 32, 1000003, 2**33 + 40])
def test_layout_of_two_word_elements(index):
    assert int(block_of(np.int64(index), 2)) == 16 * (index // 32) + index % 16
    assert int(slot_of(np.int64(index), 2)) == index // 16 % 2


def test_every_word_has_one_element():
    for slots in (2, 4):
        index = np.arange(64 * slots)
        pairs = set(zip(block_of(index, slots), slot_of(index, slots), strict=True))
        assert len(pairs) == len(index)
