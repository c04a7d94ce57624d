"""Each scheme's std against its paper's formula, and what the texts get wrong."""

import math

import pytest
import torch

from fanin.axes import Axes, dense_axes
from fanin.errors import SchemeError
from fanin.randomness import Address
from fanin.schemes import (
    SELU,
    Blockwise,
    Constant,
    Dirac,
    Identity,
    InverseSqrt,
    Kaiming,
    LeCun,
    Mirrored,
    Normal,
    Orthogonal,
    PyTorchDefault,
    Sinusoidal,
    Sparse,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    Xavier,
    Zeros,
)

N_IN, N_OUT = 300, 100
DENSE = ((N_OUT, N_IN), Axes(0, 1))


@pytest.mark.parametrize("distribution", ["normal", "uniform", "truncated"])
def test_std_of_the_dense_layer(distribution):
    wanted = {
        Xavier(distribution=distribution): math.sqrt(2 / (N_IN + N_OUT)),
        Xavier(gain=5 / 3, distribution=distribution): 5 / 3 * math.sqrt(2 / (N_IN + N_OUT)),
        Kaiming(distribution=distribution): math.sqrt(2 / N_IN),
        Kaiming(mode="fan_out", distribution=distribution): math.sqrt(2 / N_OUT),
        Kaiming(mode="fan_avg", distribution=distribution): math.sqrt(4 / (N_IN + N_OUT)),
        Kaiming(
            nonlinearity="leaky_relu", negative_slope=0.2, distribution=distribution
        ): math.sqrt(2 / 1.04 / N_IN),
        Kaiming(nonlinearity="tanh", distribution=distribution): 1.592537 / math.sqrt(N_IN),
        LeCun(distribution): math.sqrt(1 / N_IN),
        SELU(distribution): math.sqrt(1 / N_IN),
        VarianceScaling(3.0, "fan_avg", distribution): math.sqrt(6 / (N_IN + N_OUT)),
    }
    for value, std in wanted.items():
        assert value.expected(*DENSE).std == pytest.approx(std, rel=1e-6)


def test_what_texts_get_wrong():
    std = {
        name: value.expected(*DENSE).std
        for name, value in {
            "xavier": Xavier(),
            "lecun": LeCun(),
            "he": Kaiming(),
            "torch": PyTorchDefault(),
            "rule": InverseSqrt(),
            "rule normal": InverseSqrt("normal"),
        }.items()
    }
    assert std["xavier"] ** 2 == pytest.approx(2 / (N_IN + N_OUT))
    assert std["xavier"] != pytest.approx(std["lecun"], rel=0.1)
    assert std["torch"] ** 2 == pytest.approx(std["lecun"] ** 2 / 3)
    assert std["torch"] ** 2 == pytest.approx(std["he"] ** 2 / 6)
    assert std["rule"] == pytest.approx(std["torch"])
    assert std["rule normal"] == pytest.approx(std["lecun"])


def test_fans_come_from_use():
    depthwise = (64, 1, 3, 3), Axes(0, 1, (2, 3), groups=64)
    assert Kaiming(mode="fan_out").expected(*depthwise).std == pytest.approx(math.sqrt(2 / 9))
    transposed = (64, 32, 4, 4), Axes(1, 0, (2, 3), stride=(2, 2), transposed=True)
    assert Kaiming().expected(*transposed).std == pytest.approx(math.sqrt(2 / (64 * 4)))
    # torch's fan of the same weight: 32·16.
    assert PyTorchDefault().expected(*transposed).std == pytest.approx(1 / math.sqrt(3 * 512))
    packed = (300, 100), Axes(0, 1, block_sizes=(100, 100, 100))
    assert Xavier().expected(*packed).std == pytest.approx(math.sqrt(2 / 200))
    assert PyTorchDefault("attention").expected(*packed).std == pytest.approx(math.sqrt(2 / 400))


def test_blocks_of_unequal_size_have_their_own_fan_out():
    shape, axes = (300, 100), Axes(0, 1, block_sizes=(200, 100))
    tensor = torch.empty(shape)
    Xavier().fill(tensor, axes, Address(0, "qkv"))
    for part, fans in ((tensor[:200], 300), (tensor[200:], 200)):
        wanted = math.sqrt(2 / fans)
        assert part.std().item() == pytest.approx(wanted, rel=5 / math.sqrt(2 * part.numel()))
    # The same numbers as in a whole of one distribution, whatever the blocks.
    plain = torch.empty(shape)
    Normal().fill(plain, axes, Address(0, "qkv"))
    torch.testing.assert_close(tensor[:200], plain[:200] * math.sqrt(2 / 300))


@pytest.mark.parametrize(
    "value", [Xavier(), Kaiming(), LeCun(), InverseSqrt(), PyTorchDefault(), Orthogonal(), Sparse()]
)
def test_a_vector_of_outputs_has_no_fan(value):
    tensor = torch.full((5,), 3.0)
    with pytest.raises(SchemeError, match="shape"):
        value.fill(tensor, dense_axes((5,)), Address(0, "b"))
    assert (tensor == 3.0).all()


def test_a_vector_of_inputs_has_one():
    assert LeCun().expected((25,), Axes((), 0)).std == pytest.approx(0.2)


def test_truncated_bounds():
    assert TruncatedNormal(0.02).expected(*DENSE).high == pytest.approx(0.04)
    assert TruncatedNormal(0.02, cutoff_sigmas=3).expected(*DENSE).high == pytest.approx(0.06)
    absolute = TruncatedNormal(0.02, bounds_absolute=(-2, 2))
    assert absolute.expected(*DENSE).std == pytest.approx(0.02)
    assert TruncatedNormal(0.02).expected(*DENSE).std == pytest.approx(0.02 * 0.8796256610342398)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constant(float("nan")),
        lambda: Constant("1"),
        lambda: Constant(True),
        lambda: Uniform(1, 0),
        lambda: Uniform(0, float("inf")),
        lambda: Normal(std=-1),
        lambda: Normal(mean=None),
        lambda: TruncatedNormal(0),
        lambda: TruncatedNormal(1, cutoff_sigmas=0),
        lambda: TruncatedNormal(1, cutoff_sigmas=2, bounds_absolute=(-1, 1)),
        lambda: TruncatedNormal(1, bounds_absolute=(1, -1)),
        lambda: TruncatedNormal(1, bounds_absolute=(1,)),
        lambda: Xavier(gain=-1),
        lambda: Xavier(distribution="cauchy"),
        lambda: Kaiming(mode="fan"),
        lambda: Kaiming(negative_slope=0.1),
        lambda: VarianceScaling(scale=-1),
        lambda: PyTorchDefault(kind="linear"),
        lambda: PyTorchDefault(fan=0),
        lambda: PyTorchDefault(kind="embedding", fan=3),
        lambda: Orthogonal(gain=float("inf")),
        lambda: Mirrored(mirror="left"),
        lambda: Dirac(groups=0),
        lambda: Dirac(groups=1.5),
        lambda: Sparse(sparsity=1.5),
        lambda: Sparse(std=-1),
        lambda: Blockwise(()),
        lambda: Blockwise((1,)),
    ],
)
def test_impossible_values_are_refused_on_construction(make):
    with pytest.raises(SchemeError):
        make()


def test_identity_and_dirac():
    wide = torch.empty(3, 5)
    Identity(2.0).fill(wide, Axes(0, 1), Address(0, "w"))
    assert torch.equal(wide, 2 * torch.eye(3, 5))
    for groups in (1, 2):
        for shape in ((4, 4, 3), (6, 2, 3, 3), (4, 3, 2, 3, 5)):
            ours, torchs = torch.empty(shape), torch.empty(shape)
            receptive = tuple(range(2, len(shape)))
            Dirac(groups).fill(ours, Axes(0, 1, receptive), Address(0, "w"))
            torch.nn.init.dirac_(torchs, groups)
            assert torch.equal(ours, torchs)


def test_dirac_of_a_grouped_convolution_passes_its_inputs_on():
    layer = torch.nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
    x = torch.randn(2, 8, 5, 5)
    for value in (Dirac(), Dirac(groups=4), Identity()):
        value.fill(layer.weight, Axes(0, 1, (2, 3), groups=4), Address(0, "w"))
        torch.testing.assert_close(layer(x), x)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_sparse_zeroes_so_many_of_every_unit(sparsity):
    tensor = torch.empty(50, 40)
    Sparse(sparsity, std=2.0).fill(tensor, Axes(0, 1), Address(0, "w"))
    assert ((tensor == 0).sum(1) == math.ceil(sparsity * 40)).all()


def test_sparse_zeroes_every_place_equally_often():
    tensor = torch.empty(20_000, 8)
    Sparse(0.25).fill(tensor, Axes(0, 1), Address(0, "w"))
    share = (tensor == 0).double().mean(0)
    assert (share - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 20_000)


@pytest.mark.parametrize(("rows", "columns"), [(7, 5), (5, 7), (64, 4), (3, 100), (12, 6)])
def test_sinusoidal_is_the_papers_matrix(rows, columns):
    tensor = torch.empty(rows, columns, dtype=torch.float64)
    Sinusoidal().fill(tensor, Axes(0, 1), Address(0, "w"))
    wave = [
        [math.sin(i * (2 * math.pi * j / columns + 2 * math.pi / rows)) for j in range(columns)]
        for i in range(1, rows + 1)
    ]
    pattern = torch.tensor(wave, dtype=torch.float64)
    amplitude = math.sqrt(2 / (rows + columns)) / pattern.std(correction=0)
    torch.testing.assert_close(tensor, pattern * amplitude, rtol=1e-9, atol=1e-12)
    moments = Sinusoidal().expected((rows, columns), Axes(0, 1))
    assert moments.mean == pytest.approx(tensor.mean().item(), abs=1e-12)


def test_sinusoidal_needs_more_than_one_number():
    for shape in ((1, 1), (1, 2)):
        with pytest.raises(SchemeError, match="constant"):
            Sinusoidal().expected(shape, Axes(0, 1))


def test_zero_std_is_zero():
    for value in (Normal(std=0), Xavier(gain=0, distribution="truncated"), Zeros()):
        tensor = torch.ones(8, 8)
        value.fill(tensor, Axes(0, 1), Address(0, "w"))
        assert (tensor == 0).all()
