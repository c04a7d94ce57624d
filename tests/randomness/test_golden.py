"""The bits of every distribution and dtype, pinned for ever.

golden.json was written by ``python tests/randomness/test_golden.py`` when stream version 1 was
fixed.  If a test here fails, the code is wrong, not the file: other bits are another
STREAM_VERSION, with a file of its own.
"""

import json
import sys
from hashlib import blake2b
from pathlib import Path

import pytest
import torch
from draw_cases import BITS, DISTRIBUTIONS, DTYPES

from fanin.randomness import (
    STREAM_VERSION,
    Address,
    choose,
    draw_range,
    permutation,
    random_bits,
    signs,
)

FILE = Path(__file__).with_name("golden.json")
ADDRESS = Address(20151013, "encoder.layers.3.mlp.up.weight")
FAR = 2**40 + 7


def hexadecimal(values: torch.Tensor) -> list[str]:
    width = values.element_size()
    return [f"{v % 256**width:0{2 * width}x}" for v in values.view(BITS[width]).tolist()]


def record(distribution, dtype):
    many = draw_range(distribution, ADDRESS, 0, 10_000, dtype)
    return {
        "first": hexadecimal(many[:8]),
        "far": hexadecimal(draw_range(distribution, ADDRESS, FAR, 4, dtype)),
        "digest": blake2b(many.view(torch.uint8).numpy().tobytes(), digest_size=16).hexdigest(),
    }


def record_choices():
    return {
        "key": f"{ADDRESS.key():016x}",
        "child key": f"{ADDRESS.child('signs').key():016x}",
        "bits": hexadecimal(random_bits(ADDRESS, 30, 4)),
        "permutation": permutation(ADDRESS, 20).tolist(),
        "choice": choose(ADDRESS, 4, 12, 3).tolist(),
        "signs": signs(ADDRESS, 5, 20).tolist(),
    }


GOLDEN = json.loads(FILE.read_text()) if FILE.exists() else {}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_values(name, dtype, each_kernel):
    assert record(DISTRIBUTIONS[name], dtype) == GOLDEN["values"][name][str(dtype)]


def test_choices():
    assert record_choices() == GOLDEN["choices"]


def test_stream_version():
    assert GOLDEN["stream"] == STREAM_VERSION == 1


if __name__ == "__main__":
    if FILE.exists():
        sys.exit("golden.json is there: its bits are pinned. See the head of this file.")
    values = {
        name: {str(dtype): record(distribution, dtype) for dtype in DTYPES}
        for name, distribution in DISTRIBUTIONS.items()
    }
    golden = {"stream": STREAM_VERSION, "values": values, "choices": record_choices()}
    FILE.write_text(json.dumps(golden, indent=1) + "\n")
