"""The Triton kernel: interpreted and compiled without a GPU where Triton is there, run with one."""

import os
import re
import subprocess
import sys

import pytest
import torch
from draw_cases import DISTRIBUTIONS, DTYPES, same_bits

from fanin.randomness import Address, Region, draw, fill
from fanin.randomness.triton_fill import rows_of

ADDRESS = Address(3, "w")
REGIONS = [
    Region.whole((3000,)),
    Region((2**40,), (2**34 - 777,), (1500,)),
    Region((50, 40, 10), (2, 3, 0), (4, 5, 10)),
    Region((50, 40, 10), (2, 3, 2), (4, 1, 3)),
    Region((50, 400), (0, 100), (50, 100)),
]


def test_rows_of_regions():
    assert rows_of(Region.whole((3, 4))) == (12, 0)
    assert rows_of(Region((3, 4), (1, 0), (2, 4))) == (8, 0)
    assert rows_of(Region((3, 4), (0, 1), (3, 2))) == (2, 4)
    assert rows_of(Region((3, 4), (0, 1), (2, 2), (2, 1))) == (2, 8)
    assert rows_of(Region((6, 3, 4), (0, 0, 1), (6, 3, 2))) == (2, 4)
    assert rows_of(Region((6, 3, 4), (0, 1, 0), (6, 2, 4))) == (8, 12)
    # Rows that are not evenly spaced.
    assert rows_of(Region((6, 3, 4), (0, 0, 1), (6, 2, 2))) is None
    # Single elements four apart are rows of one.
    assert rows_of(Region((12,), (0,), (3,), (4,))) == (1, 4)


INTERPRETED = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from draw_cases import DISTRIBUTIONS, same_bits
from test_triton import ADDRESS, REGIONS
from fanin.randomness import draw
from fanin.randomness.triton_fill import launch
done = 0
for name, distribution in DISTRIBUTIONS.items():
    # The interpreter cuts bfloat16 off where the compiler rounds: bfloat16 needs a GPU.
    for dtype in (torch.float32, torch.float16):
        for region in REGIONS:
            target = torch.empty(region.size, dtype=dtype)
            if launch(target, distribution, ADDRESS, region):
                wanted = draw(distribution, ADDRESS, region.shape, dtype=dtype, region=region)
                assert same_bits(target, wanted), (name, dtype, region)
                done += 1
print(done)
"""


def test_interpreted_kernel_is_the_specification():
    pytest.importorskip("triton")
    out = subprocess.run(
        [sys.executable, "-c", INTERPRETED, os.path.dirname(__file__)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) == 8 * 2 * len(REGIONS)


@pytest.mark.parametrize("kind", range(4))
def test_compiled_kernel_rounds_every_operation(kind):
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from fanin.randomness import triton_kernel as module

    signature = dict.fromkeys(module.fill_rows.arg_names, "i32")
    signature |= {"out": "*bf16", "first": "i64", "kind": "constexpr", "blocks": "constexpr"}
    signature |= {f"n{i}": "fp32" for i in range(8)}
    source = ASTSource(
        fn=module.fill_rows,
        signature=signature,
        constexprs={"kind": kind, "blocks": module.BLOCKS},
    )
    options = {"enable_fp_fusion": False}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    text = compiled.asm["ptx"]
    assert not re.search(r"\b(fma|mad)\.(rn\.)?(ftz\.)?f32", text)
    assert not re.search(r"\b(add|sub|mul|sqrt)\.(approx|ftz|f32)", text)
    assert ".ftz" not in text
    assert re.search(r"\bmul\.rn\.f32", text)
    assert "cvt.rn.bf16.f32" in text
    assert ("sqrt.rn.f32" in text) == (kind > 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_cuda_is_the_specification(name, dtype):
    distribution = DISTRIBUTIONS[name]
    for region in [*REGIONS, Region((9, 8, 7), (0, 1, 2), (4, 3, 2), (2, 2, 2))]:
        wanted = draw(distribution, ADDRESS, region.shape, dtype=dtype, region=region)
        drawn = draw(distribution, ADDRESS, region.shape, dtype=dtype, region=region, device="cuda")
        assert same_bits(drawn.cpu(), wanted)
        transposed = torch.empty(region.size[::-1], dtype=dtype, device="cuda")
        view = transposed.permute(*range(transposed.dim() - 1, -1, -1))
        fill(view, distribution, ADDRESS, region)
        assert same_bits(view.cpu(), wanted)
