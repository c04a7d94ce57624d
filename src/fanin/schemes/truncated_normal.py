"""A normal cut at bounds that are given in sigmas or as absolute numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fanin.axes import Axes
from fanin.randomness.distributions import Distribution, TruncatedNormalDistribution
from fanin.schemes.checks import require, require_number
from fanin.schemes.scheme import ElementwiseScheme, Names, Numbered


@dataclass(frozen=True)
class TruncatedNormal(ElementwiseScheme):
    """N(mean, std²) conditioned on the bounds, exactly, in the tails too.

    ``std`` is that *before* the cut: cut at 2σ the tensor has 0.8796 std.  The bounds of
    ``torch.nn.init.trunc_normal_`` are absolute: ``trunc_normal_(w, std=0.02)`` cuts at ±2, that
    is at 100σ, which is never.  Here the cut is in sigmas unless ``bounds_absolute`` is given.

    Use: BERT, ViT (std 0.02).

    Args:
        std: standard deviation before the cut, above 0.
        mean: mean before the cut.
        cutoff_sigmas: cut at mean ± cutoff_sigmas·std.
        bounds_absolute: ``(low, high)`` to cut at instead; ``cutoff_sigmas`` is then None.
    """

    std: float = 1.0
    mean: float = 0.0
    cutoff_sigmas: float | None = None
    bounds_absolute: tuple[float, float] | None = None

    names: ClassVar[Names] = {"trunc_normal": {}, "truncated_normal": {}}
    numbered: ClassVar[Numbered] = {
        "trunc_normal": lambda std: {"std": std},
        "truncated_normal": lambda std: {"std": std},
    }

    def __post_init__(self) -> None:
        require_number(self, "mean")
        require_number(self, "std", least=0)
        require(self.std > 0, f"{self!r}: std must be above 0. Use Constant for std 0.")
        require(
            self.cutoff_sigmas is None or self.bounds_absolute is None,
            f"{self!r}: give cutoff_sigmas or bounds_absolute, not both.",
        )
        if self.bounds_absolute is None:
            if self.cutoff_sigmas is None:
                object.__setattr__(self, "cutoff_sigmas", 2.0)
            require_number(self, "cutoff_sigmas", least=0)
            require(self.cutoff_sigmas != 0, f"{self!r}: cutoff_sigmas must be above 0.")
            return
        ordered = (
            len(self.bounds_absolute) == 2 and self.bounds_absolute[0] < self.bounds_absolute[1]
        )
        require(ordered, f"{self!r}: bounds_absolute must be (low, high) with low < high.")
        low, high = self.bounds_absolute
        object.__setattr__(self, "bounds_absolute", (low, high))

    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """The normal between its bounds."""
        if self.bounds_absolute is not None:
            low, high = self.bounds_absolute
        else:
            assert self.cutoff_sigmas is not None  # __post_init__ sets one of the two
            low = self.mean - self.cutoff_sigmas * self.std
            high = self.mean + self.cutoff_sigmas * self.std
        return TruncatedNormalDistribution(
            float(self.mean), float(self.std), float(low), float(high)
        )
