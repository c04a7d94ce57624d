"""Gradients through Fourier transforms, and signals that are even for the next one.

Squares are averaged over 8 draws of the weights; the limits are those of ``test_families``.
"""

import pytest
import torch
from building_blocks import Module, N, batch, dense
from checks import assert_predicted, predicted_and_measured
from torch.nn import functional as F  # noqa: N812


@pytest.mark.parametrize("length", [7, 12])
@pytest.mark.parametrize("norm", ["backward", "ortho"])
def test_gradients_return_through_half_spectra(length, norm):
    def run(m, x):
        bins = torch.fft.rfft(m.a(x), dim=1, norm=norm)
        parts = torch.view_as_real(bins) * m.gain
        found = torch.fft.irfft(torch.view_as_complex(parts), n=length, dim=1, norm=norm)
        return m.b(found)

    rows = predicted_and_measured(
        lambda: Module(run, a=dense(), b=dense(), gain=torch.tensor(0.7)), batch(16, length, N)
    )
    found = [(s.operation, g, t) for s, _, _, g, t in rows if t is not None]
    # Of the bins of real numbers only the moments of all together are compared.
    assert {name for name, _, _ in found} >= {"mm", "view_as_real", "mul"}
    for name, gradient, truth in found:
        if name in ("mm", "view_as_real", "mul"):
            assert gradient == pytest.approx(truth, rel=0.1), name


@pytest.mark.parametrize(("length", "width"), [(6, 192), (9, 256)])
def test_the_next_transform_finds_its_signal_even(length, width):
    def mixed(x):
        return F.layer_norm(x + torch.fft.fftn(x, dim=(1, 2)).real, (width,))

    def run(m, x):
        h = mixed(m.a(x))
        h = mixed(F.layer_norm(h + 0.5 * m.b(h), (width,)))
        return m.c(h)

    def build():
        return Module(run, a=dense(width, width), b=dense(width, width), c=dense(width, width))

    assert_predicted(
        build, batch(8, length, width), skip=("_fft_c2c", "_to_copy", "view_as_real"), draws=8
    )


def test_an_imaginary_part_of_an_even_signal_is_what_is_left_of_it():
    def run(m, x):
        h = torch.fft.fftn(m.a(x), dim=(1, 2)).real
        return torch.view_as_real(torch.fft.fftn(h + 8 * m.b(x), dim=(1, 2)))[..., 1]

    rows = predicted_and_measured(lambda: Module(run, a=dense(), b=dense()), batch(4, 8, N))
    predicted, measured = rows[-1][1:3]
    assert predicted == pytest.approx(measured, rel=0.05)
