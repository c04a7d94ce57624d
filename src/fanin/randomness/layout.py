"""Which word of which Philox block belongs to which element.

Elements are numbered row-major over the whole tensor.  A tile is 16 consecutive blocks, that is
64 words: element i of a one-word dtype has block 16⌊i/64⌋ + i mod 16 and word ⌊i/16⌋ mod 4, so
that a vector unit which computes 16 blocks side by side stores 4 runs of 16 elements without a
transpose.  float64 takes two words an element: a tile is then 32 elements, element i has block
16⌊i/32⌋ + i mod 16 and the words 2h and 2h + 1 with h = ⌊i/16⌋ mod 2.
"""

from enum import IntEnum

from fanin.randomness.arrays import Array, Arrays
from fanin.randomness.philox import philox

BLOCKS_PER_TILE = 16
_LOW = 0xFFFFFFFF

Quad = tuple[Array, Array, Array, Array]


class Purpose(IntEnum):
    """Third word of the counter: what the words are used for, so that no two uses share any."""

    SINGLE = 0
    DOUBLE = 1
    BITS = 2


def words_of_blocks(xp: Arrays, key: int, blocks: Array, purpose: Purpose) -> Quad:
    """The four words of each block; ``blocks`` is an int64 array of block numbers."""
    # A zero array rather than the int 0, so that every word comes back as an array.
    zero = blocks & 0
    counter = (blocks & _LOW, (blocks >> 32) & _LOW, zero + int(purpose), zero)
    return philox(xp, counter, key)


def tile_words(xp: Arrays, key: int, first_tile: int, tiles: int, purpose: Purpose) -> Quad:
    """The four words of every block of some tiles, each array of shape (tiles, 16)."""
    blocks = xp.range(first_tile * BLOCKS_PER_TILE, tiles * BLOCKS_PER_TILE)
    return words_of_blocks(xp, key, blocks.reshape(tiles, BLOCKS_PER_TILE), purpose)


def block_of(index: Array, slots: int) -> Array:
    """Block of each element; ``slots`` elements share one block (4, or 2 for float64)."""
    return (index // (BLOCKS_PER_TILE * slots)) * BLOCKS_PER_TILE + (index & (BLOCKS_PER_TILE - 1))


def slot_of(index: Array, slots: int) -> Array:
    """Which of its block's elements each element is."""
    return (index >> 4) & (slots - 1)
