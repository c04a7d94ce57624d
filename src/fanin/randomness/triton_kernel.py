"""The same words and laws as the array program, for GPUs, in Triton.

Imported only where a CUDA tensor is filled and Triton is there.  Launched with
``enable_fp_fusion=False``, so that no multiply and add become one; ``sqrt_rn`` rounds correctly,
where ``sqrt`` would be approximate.  Operation by operation as in normal.py, uniform.py,
truncated.py and elementary.py.
"""

# Triton reads annotations as its own types, and need not be installed where types are checked.
# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
# ruff: noqa: ANN001, ANN202, ANN201

import triton
import triton.language as tl

from fanin.randomness import philox as ph
from fanin.randomness import polynomials as p

BLOCKS = 512
"""Philox blocks of one program instance: 2048 elements."""

_ROUNDS = tl.constexpr(ph.ROUNDS)
_M0, _M1 = tl.constexpr(ph.MULTIPLIER_0), tl.constexpr(ph.MULTIPLIER_1)
_W0, _W1 = tl.constexpr(ph.KEY_STEP_0), tl.constexpr(ph.KEY_STEP_1)

_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7 = (tl.constexpr(c) for c in p.LOG_32)
_S0, _S1, _S2, _S3, _S4 = (tl.constexpr(c) for c in p.SIN_32)
_C0, _C1, _C2, _C3 = (tl.constexpr(c) for c in p.COS_32)
_N0, _N1, _N2, _N3, _N4, _N5, _N6, _N7 = (tl.constexpr(c) for c in p.CENTRE_32)
_T0, _T1, _T2, _T3, _T4, _T5, _T6, _T7, _T8 = (tl.constexpr(c) for c in p.TAIL_32)
_CENTRE_SHIFT, _TAIL_SHIFT = tl.constexpr(p.CENTRE_SHIFT_32), tl.constexpr(p.TAIL_SHIFT_32)
_OFFSET, _SWITCH = tl.constexpr(p.ROOT_OFFSET), tl.constexpr(p.SWITCH)

UNIFORM, NORMAL, QUANTILE, QUANTILE_WIDE = (tl.constexpr(kind) for kind in range(4))


@triton.jit
def _words(block, key_0, key_1):
    c0 = (block & 0xFFFFFFFF).to(tl.uint32)
    c1 = (block >> 32).to(tl.uint32)
    c2 = c0 & 0
    c3 = c0 & 0
    k0 = c2 + key_0.to(tl.uint32, bitcast=True)
    k1 = c2 + key_1.to(tl.uint32, bitcast=True)
    m0 = (c2 + _M0).to(tl.uint32)
    m1 = (c2 + _M1).to(tl.uint32)
    for _ in tl.static_range(_ROUNDS):
        high0, low0 = tl.umulhi(c0, m0), c0 * m0
        high1, low1 = tl.umulhi(c2, m1), c2 * m1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 = (k0 + _W0).to(tl.uint32)
        k1 = (k1 + _W1).to(tl.uint32)
    return c0, c1, c2, c3


@triton.jit
def _minus_two_log(x, exponent: tl.constexpr):
    above = x.to(tl.int32, bitcast=True) - (0x3F3504F3 + (exponent << 23))
    k = (above >> 23).to(tl.float32)
    t = ((above & 0x7FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True) - 1.0
    h = t * _L7 + _L6
    h = h * t + _L5
    h = h * t + _L4
    h = h * t + _L3
    h = h * t + _L2
    h = h * t + _L1
    h = h * t + _L0
    return k * -1.3862943649291992 + t * h


@triton.jit
def _signed(word):
    return word.to(tl.int32, bitcast=True).to(tl.float32)


@triton.jit
def _pair(a, b):
    cell = (a & 0x7FFFFFFF).to(tl.int32, bitcast=True).to(tl.float32) + 0.5
    radius = tl.sqrt_rn(_minus_two_log(cell, 31))
    x = _signed(b) * 4.656612873077393e-10  # 2**-31
    square = x * x
    sine = square * _S4 + _S3
    sine = sine * square + _S2
    sine = sine * square + _S1
    sine = x * (sine * square + _S0)
    cosine = square * _C3 + _C2
    cosine = cosine * square + _C1
    cosine = (1.0 - square) * (cosine * square + _C0)
    mirrored = cosine.to(tl.uint32, bitcast=True) ^ (a & 0x80000000)
    return radius * mirrored.to(tl.float32, bitcast=True), radius * sine


@triton.jit
def _quantile(word, below, above, middle, step, wide: tl.constexpr):
    cell = (word >> 1).to(tl.int32, bitcast=True)
    mass_below = cell.to(tl.float32) * step + below
    mass_above = (cell ^ 0x7FFFFFFF).to(tl.float32) * step + above
    y = (cell - 0x40000000).to(tl.float32) * step + middle
    square = _minus_two_log(mass_below * mass_above, 0) + _OFFSET
    s = tl.sqrt_rn(square)
    u = s - _CENTRE_SHIFT
    ratio = u * _N7 + _N6
    ratio = ratio * u + _N5
    ratio = ratio * u + _N4
    ratio = ratio * u + _N3
    ratio = ratio * u + _N2
    ratio = ratio * u + _N1
    ratio = ratio * u + _N0
    if wide:
        v = s - _TAIL_SHIFT
        tail = v * _T8 + _T7
        tail = tail * v + _T6
        tail = tail * v + _T5
        tail = tail * v + _T4
        tail = tail * v + _T3
        tail = tail * v + _T2
        tail = tail * v + _T1
        tail = tail * v + _T0
        ratio = tl.where(square > _SWITCH, tail, ratio)
    return y * ratio


@triton.jit
def _bounded(value, low, high):
    return tl.minimum(tl.maximum(value, low), high)


@triton.jit
def _store(out, value, begin, count, block, word: tl.constexpr):
    column = (block >> 4) * 64 + word * 16 + (block & 15) - begin
    inside = (column >= 0) & (column < count)
    tl.store(out + column, value.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["first", "row_step", "count", "key_0", "key_1"])
def fill_rows(
    out,
    first,
    row_step,
    count,
    programs,
    key_0,
    key_1,
    n0,
    n1,
    n2,
    n3,
    n4,
    n5,
    n6,
    n7,
    kind: tl.constexpr,
    blocks: tl.constexpr,
):
    """Rows of ``count`` consecutive elements, ``row_step`` apart in the whole tensor.

    ``programs`` instances share one row; ``n0`` … are the constants of the specification's
    dataclass for the kind, in its order.
    """
    instance = tl.program_id(0)
    row = (instance // programs).to(tl.int64)
    part = (instance % programs).to(tl.int64)
    begin = first.to(tl.int64) + row * row_step.to(tl.int64)
    out += row * count.to(tl.int64)
    block = (begin >> 6) * 16 + part * blocks + tl.arange(0, blocks).to(tl.int64)
    w0, w1, w2, w3 = _words(block, key_0, key_1)
    if kind == UNIFORM:
        v0 = _bounded(_signed(w0) * 4.656612873077393e-10 * n1 + n0, n2, n3)
        v1 = _bounded(_signed(w1) * 4.656612873077393e-10 * n1 + n0, n2, n3)
        v2 = _bounded(_signed(w2) * 4.656612873077393e-10 * n1 + n0, n2, n3)
        v3 = _bounded(_signed(w3) * 4.656612873077393e-10 * n1 + n0, n2, n3)
    elif kind == NORMAL:
        z0, z1 = _pair(w0, w1)
        z2, z3 = _pair(w2, w3)
        v0, v1, v2, v3 = z0 * n1 + n0, z1 * n1 + n0, z2 * n1 + n0, z3 * n1 + n0
    else:
        wide: tl.constexpr = kind == QUANTILE_WIDE
        v0 = _bounded(_quantile(w0, n0, n1, n2, n3, wide) * n5 + n4, n6, n7)
        v1 = _bounded(_quantile(w1, n0, n1, n2, n3, wide) * n5 + n4, n6, n7)
        v2 = _bounded(_quantile(w2, n0, n1, n2, n3, wide) * n5 + n4, n6, n7)
        v3 = _bounded(_quantile(w3, n0, n1, n2, n3, wide) * n5 + n4, n6, n7)
    _store(out, v0, begin, count, block, 0)
    _store(out, v1, begin, count, block, 1)
    _store(out, v2, begin, count, block, 2)
    _store(out, v3, begin, count, block, 3)
