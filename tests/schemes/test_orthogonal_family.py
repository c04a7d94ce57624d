"""Orthogonal, delta-orthogonal and mirrored weights: isometries, and Haar."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from scipy import stats

from fanin.axes import Axes, dense_axes
from fanin.errors import SchemeError
from fanin.randomness import Address, NormalDistribution, Region, draw
from fanin.randomness.orthonormal import q_by_decomposition, q_by_reflections
from fanin.schemes import DeltaOrthogonal, Mirrored, Orthogonal, Sparse
from fanin.schemes.haar import haar

ADDRESS = Address(1, "w")


def error(matrix: torch.Tensor, gain: float = 1.0) -> float:
    """max |QᵀQ − gain²·I| over the lesser side."""
    m = matrix.double()
    if m.shape[0] < m.shape[1]:
        m = m.T
    return float((m.T @ m - gain**2 * torch.eye(m.shape[1], dtype=torch.float64)).abs().max())


def drawn(value, shape, axes=None, dtype=torch.float32):
    tensor = torch.full(shape, float("nan"), dtype=dtype)
    value.fill(tensor, axes or dense_axes(shape), ADDRESS)
    return tensor


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 7), (7, 1), (64, 64), (300, 70), (70, 300), (513, 511), (700, 600)]
)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float32, 5e-6),
        (torch.float64, 1e-13),
        # Rounding an element moves a dot product of columns of norm 1 by at most eps/2 twice.
        (torch.bfloat16, 2**-8),
        (torch.float16, 2**-11),
    ],
    ids=str,
)
def test_error_of_every_shape_and_dtype(shape, dtype, tolerance):
    assert error(drawn(Orthogonal(), shape, dtype=dtype)) <= tolerance


@pytest.mark.slow
def test_error_at_4096():
    q = drawn(Orthogonal(), (4096, 4096))
    gram = q.T @ q
    # In float32 the check itself errs by about 1e-6, which is part of the bound here.
    assert float((gram - torch.eye(4096)).abs().max()) <= 1e-5


def test_gain_is_every_singular_value():
    values = torch.linalg.svdvals(drawn(Orthogonal(1.7), (60, 40)).double())
    torch.testing.assert_close(values, torch.full_like(values, 1.7), rtol=1e-6, atol=0)


def test_independent_matrices_are_orthogonal_each():
    in_out = drawn(Orthogonal(), (40, 90), Axes(1, 0))
    assert error(in_out) < 1e-6
    packed = drawn(Orthogonal(), (120, 40), Axes(0, 1, block_sizes=(40, 60, 20)))
    assert max(error(part) for part in packed.split((40, 60, 20))) < 1e-6
    experts = drawn(Orthogonal(), (2, 3, 24, 16), Axes(2, 3, batch=(0, 1)))
    assert max(error(experts[i, j]) for i in range(2) for j in range(3)) < 1e-6
    assert len({float(experts[i, j, 0, 0]) for i in range(2) for j in range(3)}) == 6
    swapped = drawn(Orthogonal(), (24, 3, 16), Axes(0, 2, batch=1))
    assert max(error(swapped[:, i]) for i in range(3)) < 1e-6
    conv = drawn(Orthogonal(), (16, 8, 3, 3))
    assert error(conv.flatten(1)) < 1e-6
    grouped = drawn(Orthogonal(), (24, 4, 3), Axes(0, 1, 2, groups=3))
    assert max(error(part.flatten(1)) for part in grouped.split(8)) < 1e-6
    transposed = drawn(Orthogonal(), (8, 16, 3, 3), Axes(1, 0, (2, 3), transposed=True))
    assert error(transposed.flatten(1)) < 1e-6
    heads = drawn(Orthogonal(), (4, 8, 32), Axes((0, 1), 2))
    assert error(heads.reshape(32, 32)) < 1e-6
    output = drawn(Orthogonal(), (32, 4, 8), Axes(0, (1, 2)))
    assert error(output.reshape(32, 32)) < 1e-6


def by_reflections(n: int, columns: int, count: int) -> torch.Tensor:
    normal = NormalDistribution(0.0, 1.0)
    x = draw(normal, ADDRESS, (count, n, columns), dtype=torch.float64)
    return q_by_reflections(x, 2)


def by_decomposition(n: int, columns: int, count: int) -> torch.Tensor:
    return haar(ADDRESS, 0, count, n, columns, torch.float64)


each_way = pytest.mark.parametrize("make", [by_reflections, by_decomposition])


@pytest.mark.parametrize("value", [Orthogonal(), DeltaOrthogonal(), Sparse(0.2, std=1.0)], ids=repr)
@pytest.mark.parametrize(
    ("shape", "axes", "size"),
    [
        ((24, 8), Axes(0, 1, block_sizes=(8, 8, 8)), 8),
        ((24, 8, 3), Axes(0, 1, 2, groups=3), 8),
        ((3, 8, 8), Axes(1, 2, batch=0), 1),
        ((24, 8, 3), Axes(1, 0, 2, groups=3, transposed=True), 8),
    ],
)
def test_no_two_pieces_are_equal(value, shape, axes, size):
    """Equal q, k and v, or equal experts, would stay equal in training."""
    pieces = drawn(value, shape, axes).split(size)
    assert len(pieces) == 3
    for i, a in enumerate(pieces):
        assert not any(torch.equal(a, b) for b in pieces[:i])


@each_way
def test_haar_by_trace(make):
    """The trace of a Haar matrix in O(n) has mean 0 and variance 1; QR's own signs break that."""
    n, count = 6, 4000
    q = make(n, n, count)
    traces = q.diagonal(dim1=1, dim2=2).sum(1)
    reference = stats.ortho_group(n, seed=0).rvs(count).trace(axis1=1, axis2=2)
    assert stats.ks_2samp(traces.numpy(), reference).pvalue > 1e-4
    assert abs(traces.mean().item()) < 5 / math.sqrt(count)
    determinants = torch.linalg.det(q).round()
    assert abs(determinants.mean().item()) < 5 / math.sqrt(count)
    # Without the signs the test would see it.
    unsigned = torch.linalg.qr(torch.randn(count, n, n, dtype=torch.float64))[0]
    assert stats.ks_2samp(unsigned.diagonal(dim1=1, dim2=2).sum(1), reference).pvalue < 1e-4


@each_way
@pytest.mark.parametrize("place", [(0, 0), (1, 0), (0, 1), (2, 2), (4, 1)])
def test_haar_by_every_entry(make, place):
    """An entry squared of a Haar column in n dimensions is Beta(1/2, (n − 1)/2)."""
    n = 5
    square = make(n, 3, 4000)[:, place[0], place[1]] ** 2
    assert stats.kstest(square.numpy(), stats.beta(0.5, (n - 1) / 2).cdf).pvalue > 1e-4


def test_decomposition_is_the_one_with_a_positive_diagonal():
    x = torch.randn(3, 9, 5, dtype=torch.float64)
    q = q_by_decomposition(x)
    r = q.transpose(1, 2) @ x
    assert (r.diagonal(dim1=1, dim2=2) > 0).all()
    torch.testing.assert_close(q @ r, x)
    torch.testing.assert_close(r, r.triu())


def test_blocks_of_reflections_do_not_change_the_result():
    x = torch.randn(2, 90, 70, dtype=torch.float64)
    results = [q_by_reflections(x.clone(), block) for block in (1, 8, 33, 70, 512)]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-11, atol=1e-13)


def test_reflections_are_applied_in_order():
    """H₁…H_m D by the definition of a Householder reflection, one at a time."""
    x = torch.randn(1, 6, 4, dtype=torch.float64)
    wanted = torch.eye(6, dtype=torch.float64)
    signs = []
    for k in range(4):
        column = x[0, k:, k]
        sign = -1.0 if column[0] < 0 else 1.0
        v = torch.zeros(6, dtype=torch.float64)
        v[k:] = column
        v[k] += sign * column.norm()
        wanted = wanted @ (torch.eye(6, dtype=torch.float64) - 2 * torch.outer(v, v) / (v @ v))
        signs.append(-sign)
    wanted = wanted[:, :4] * torch.tensor(signs, dtype=torch.float64)
    torch.testing.assert_close(q_by_reflections(x.clone(), 2)[0], wanted)


def test_the_same_whatever_the_sharding():
    whole = drawn(Orthogonal(), (96, 64))
    for axis in (0, 1):
        parts = []
        for rank in range(4):
            region = Region.whole((96, 64)).narrow(axis, rank * (96, 64)[axis] // 4, (24, 16)[axis])
            part = torch.empty(region.size)
            Orthogonal().fill(part, Axes(0, 1), ADDRESS, region)
            parts.append(part)
        assert torch.equal(torch.cat(parts, axis), whole)


@pytest.mark.parametrize("kernel", [1, 3, 4, 5])
def test_delta_orthogonal_convolutions_keep_norms(kernel):
    weight = drawn(DeltaOrthogonal(), (12, 8, kernel, kernel), dtype=torch.float64)
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    padded = F.pad(x, (kernel // 2, (kernel - 1) // 2) * 2, mode="circular")
    assert F.conv2d(padded, weight).norm().item() == pytest.approx(x.norm().item())
    assert int(weight.count_nonzero()) == 12 * 8
    if kernel > 1:
        flat = drawn(Orthogonal(), (12, 8, kernel, kernel), dtype=torch.float64)
        assert F.conv2d(padded, flat).norm().item() != pytest.approx(x.norm().item(), rel=1e-3)


def test_delta_orthogonal_needs_as_many_outputs_as_inputs():
    with pytest.raises(SchemeError, match="Orthogonal"):
        drawn(DeltaOrthogonal(), (4, 8, 3, 3))
    assert error(drawn(DeltaOrthogonal(), (4, 8))) < 1e-6


ACTIVATIONS = [F.relu, F.gelu, F.silu, F.hardswish, lambda x: F.softplus(x) - 0.0]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_mirrored_stack_is_an_orthogonal_linear_map(activation):
    width, depth, data = 32, 60, 16
    layers = [drawn(Mirrored(mirror="outputs"), (width, data), dtype=torch.float64)]
    for depth_index in range(depth):
        middle = torch.empty(width, width, dtype=torch.float64)
        Mirrored().fill(middle, Axes(0, 1), Address(depth_index, "middle"))
        layers.append(middle)
    layers.append(drawn(Mirrored(mirror="inputs"), (data, width), dtype=torch.float64))

    def network(x):
        for weight in layers[:-1]:
            x = activation(x @ weight.T)
        return x @ layers[-1].T

    x, y = torch.randn(2, 5, data, dtype=torch.float64)
    torch.testing.assert_close(network(x).norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(network(x + y), network(x) + network(y))


def test_leaky_relu_takes_one_over_one_plus_slope():
    gain = 1 / 1.2
    first = drawn(Mirrored(mirror="outputs"), (8, 4), dtype=torch.float64)
    last = drawn(Mirrored(gain, "inputs"), (4, 8), dtype=torch.float64)
    x = torch.randn(3, 4, dtype=torch.float64)
    out = F.leaky_relu(x @ first.T, 0.2) @ last.T
    torch.testing.assert_close(out.norm(dim=1), x.norm(dim=1))


def test_mish_does_not_mirror():
    first = drawn(Mirrored(mirror="outputs"), (8, 4), dtype=torch.float64)
    last = drawn(Mirrored(mirror="inputs"), (4, 8), dtype=torch.float64)
    x = torch.randn(3, 4, dtype=torch.float64)
    assert not torch.allclose((F.mish(x @ first.T) @ last.T).norm(dim=1), x.norm(dim=1), rtol=1e-2)


def test_mirrored_convolutions_over_all_taps():
    scheme = Mirrored(2.0, "outputs", "all")
    first = drawn(scheme, (16, 1, 3, 3), dtype=torch.float64)
    torch.testing.assert_close(first[:8], -first[8:])
    # 8 kernels of 9 taps, orthogonal to one another: no two look at the pixels alike.
    assert error(first[:8].reshape(8, 9), 2.0) < 1e-12
    expected = scheme.expected((16, 1, 3, 3), dense_axes((16, 1, 3, 3)))
    assert first.square().mean().sqrt().item() == pytest.approx(expected.std)
    both = drawn(Mirrored(taps="all"), (6, 4, 3), dtype=torch.float64)
    torch.testing.assert_close(both[:3, :2], both[3:, 2:])
    torch.testing.assert_close(both[:3, :2], -both[3:, :2])
    assert error(both[:3, :2].reshape(3, 6)) < 1e-12


def test_all_taps_of_a_transposed_convolution_are_refused():
    axes = Axes(outputs=(1,), inputs=(0,), receptive=(2, 3), transposed=True)
    with pytest.raises(SchemeError, match="middle"):
        Mirrored(taps="all").expected((4, 6, 3, 3), axes)


def test_mirrored_convolutions_by_the_middle_tap():
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    first = drawn(Mirrored(mirror="outputs"), (8, 3, 3, 3), dtype=torch.float64)
    middle = drawn(Mirrored(), (8, 8, 5, 5), dtype=torch.float64)
    last = drawn(Mirrored(mirror="inputs"), (4, 8, 3, 3), dtype=torch.float64)
    out = F.relu(F.conv2d(x, first, padding=1))
    out = F.relu(F.conv2d(out, middle, padding=2))
    out = F.conv2d(out, last, padding=1)
    assert out.norm().item() == pytest.approx(x.norm().item())


@pytest.mark.parametrize(
    ("value", "shape", "word"),
    [
        (Mirrored(), (5, 4), "5 outputs"),
        (Mirrored(), (4, 5), "5 inputs"),
        (Mirrored(mirror="inputs"), (5, 3), "3 inputs"),
        (Mirrored(mirror="outputs"), (5, 3), "5 outputs"),
    ],
)
def test_odd_sides_cannot_be_paired(value, shape, word):
    with pytest.raises(SchemeError, match=word):
        drawn(value, shape)


def test_pairs_are_opposite():
    w = drawn(Mirrored(), (6, 8))
    assert torch.equal(w[:3], -w[3:])
    assert torch.equal(w[:, :4], -w[:, 4:])
