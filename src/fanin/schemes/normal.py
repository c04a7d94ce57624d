"""N(mean, std²), whatever the shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fanin.axes import Axes
from fanin.randomness.distributions import Distribution, NormalDistribution
from fanin.schemes.checks import require_number
from fanin.schemes.scheme import ElementwiseScheme, Names, Numbered


@dataclass(frozen=True)
class Normal(ElementwiseScheme):
    """W ~ N(mean, std²).

    Use: embeddings, GPT-2 and BERT style models (std 0.02).  A fixed std suits one width only:
    signals shrink by std·√fan_in a layer.

    Args:
        mean: the mean.
        std: the standard deviation, at least 0.
    """

    mean: float = 0.0
    std: float = 1.0

    names: ClassVar[Names] = {"normal": {}}
    numbered: ClassVar[Numbered] = {"normal": lambda std: {"std": std}}

    def __post_init__(self) -> None:
        require_number(self, "mean")
        require_number(self, "std", least=0)

    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """N(mean, std²)."""
        return NormalDistribution(float(self.mean), float(self.std))
