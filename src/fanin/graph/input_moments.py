"""How large a call's inputs were: a few numbers, kept when the tensors are gone."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class InputMoments:
    """Moments of one floating-point input over all of its elements.

    Args:
        mean: E[x].
        second_moment: E[x²], the mean included; NaN or infinite where the input holds such values.
        standard_error: of the second moment, from how much it differs between samples (the first
            axis), and at least √(2/N)·E[x²], as N independent normal numbers would have: two
            samples may be alike by chance.
    """

    mean: float
    second_moment: float
    standard_error: float

    @property
    def finite(self) -> bool:
        """No NaN and no infinity among the elements."""
        return math.isfinite(self.second_moment)

    @property
    def constant(self) -> bool:
        """All elements are equal: a placeholder, not data."""
        return self.finite and self.second_moment - self.mean**2 <= 1e-9 * self.second_moment


def moments_of_input(tensor: torch.Tensor) -> InputMoments | None:
    """The moments of an input that holds real numbers.

    None for integers, for tensors without values of their own (meta, fake, distributed, empty),
    and for layouts other than strided.

    Examples:
        >>> moments_of_input(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        InputMoments(mean=1.75, second_moment=6.25, standard_error=6.25)
        >>> moments_of_input(torch.zeros(2, dtype=torch.long)) is None
        True
    """
    # Fake and distributed tensors dispatch on their own: their values are elsewhere or nowhere.
    own = type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
    if own or tensor.is_meta or not tensor.is_floating_point():
        return None
    if tensor.layout != torch.strided or tensor.is_nested or tensor.numel() == 0:
        return None
    with torch.no_grad():
        x = tensor.detach().double()
        squares = x.square()
        each = squares.flatten(1).mean(1) if x.dim() > 1 else squares.flatten()
        mean, second = float(x.mean()), float(each.mean())
        error = second * math.sqrt(2 / x.numel())
        if len(each) > 1:
            error = max(error, float(each.std()) / math.sqrt(len(each)))
    return InputMoments(mean, second, error)
