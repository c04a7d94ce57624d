"""How far signals drift along a stream, and how far chance alone would take them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fanin.checking.streams import Point, Stream
from fanin.measuring.activations import BOUNDED
from fanin.signals import LayerSignal

WARN_DRIFT = 10.0
ERROR_DRIFT = 1e3


@dataclass(frozen=True)
class Drift:
    """From one point of a stream to another.

    Args:
        start: where the comparison starts.
        end: where it ends.
        before: the quantity at the start.
        after: the quantity at the end; 0 is a drift without bounds.
        way: what lies between, in words: "9 layers" of a plain net, "9 blocks" of another.
        chance: nats by which the logarithm of an RMS may wander at this width: 3 standard
            deviations.
        shrinkage: nats by which it falls on average at this width.
    """

    start: Point
    end: Point
    before: float
    after: float
    way: str
    chance: float
    shrinkage: float

    @property
    def ratio(self) -> float:
        """The quantity at the end over that at the start."""
        return self.after / self.before

    def below(self, factor: float) -> bool:
        """The quantity fell by more than ``factor`` and chance together."""
        if self.after == 0:
            return True
        return math.log(self.ratio) < -math.log(factor) - self.chance - self.shrinkage

    def above(self, factor: float) -> bool:
        """The quantity grew by more than ``factor`` and chance together."""
        return self.after > 0 and math.log(self.ratio) > math.log(factor) + self.chance


def chance_of_width(layers: Sequence[LayerSignal]) -> tuple[float, float]:
    """(3σ, mean fall) in nats of log RMS, for Gaussian weights of these widths.

    For He-initialised ReLU layers of width n, log q ~ N(−5L/2n, 5L/n) over draws of the weights
    (q is the second moment; the RMS has half of its logarithm). Measured at n = 64, L = 50:
    −1.98 ± 2.05 where this gives −1.95 ± 1.98.

    Examples:
        >>> from types import SimpleNamespace
        >>> spread, fall = chance_of_width([SimpleNamespace(fan_in=64.0)] * 50)
        >>> round(spread / 3 * 2, 2), round(fall * 2, 2)
        (1.98, 1.95)
    """
    inverse_widths = sum(1 / max(layer.fan_in, 1.0) for layer in layers)
    return 1.5 * math.sqrt(5 * inverse_widths), 1.25 * inverse_widths


def activation_drifts(stream: Stream) -> Iterator[Drift]:
    """RMS at each point whose scale reaches the output, against where that stretch starts."""
    tail = [p for p in stream.tail if p.signal.rms is not None]
    if len(tail) < 2:
        return
    start = tail[0]
    before = reference_rms(start)
    if not before:
        return
    for index in range(1, len(tail)):
        end = tail[index]
        assert end.signal.rms is not None
        between = [p.layer for p in tail[1 : index + 1] if p.layer is not None]
        spread, fall = chance_of_width(between)
        way = _way(tail[1 : index + 1])
        yield Drift(start, end, before, end.signal.rms, way, spread, fall)


def _behind_embeddings(stream: Stream) -> Sequence[Point]:
    """The points from where positions have been added to embedded tokens.

    Tokens far smaller than their positions have a small share in the sum and in its gradient, by
    their scale and not by depth.
    """
    points = stream.points
    start = 0
    while start + 1 < len(points):
        looked_up = points[start].signal.operation in ("embedding", "_embedding_bag")
        if not looked_up or points[start + 1].layer is not None:
            break
        start += 1
    return points[start:]


def _way(points: Sequence[Point]) -> str:
    plain = all(p.layer is not None or p.is_norm for p in points)
    count = sum(p.layer is not None for p in points) if plain else len(points)
    return f"{count} {'layer' if plain else 'block'}{'' if count == 1 else 's'}"


def reference_rms(point: Point) -> float | None:
    """The RMS that a stretch starts from: behind a bounded activation, what that lets through."""
    layer = point.layer
    if layer is not None and layer.activation in BOUNDED and layer.activated_rms:
        return layer.activated_rms
    return point.signal.rms


def gradient_drift(stream: Stream) -> Drift | None:
    """Size of the gradient at the stream's first point, against its last.

    Gradients are compared as Frobenius norms, which convolutions with strides and layers that
    change the width preserve when they preserve the signal's RMS. Ahead of a norm a gradient is
    inverse to the scale that the norm forgets, so that there the product with that scale counts,
    taken vector by vector (a learned token may be far smaller than the patches beside it).
    """
    points = [
        p for p in _behind_embeddings(stream) if p.signal.gradient_rms and p.signal.sensitivity
    ]
    between = [p.layer for p in points[1:] if p.layer is not None]
    if len(points) < 2:
        return None
    tail = {id(p) for p in stream.tail}
    scale = reference_rms(stream.tail[0]) if stream.tail else None

    def size(point: Point) -> float:
        if scale and id(point) in tail:
            assert point.signal.gradient_rms is not None
            return point.signal.gradient_rms * math.sqrt(math.prod(point.signal.shape)) * scale
        assert point.signal.sensitivity is not None
        return point.signal.sensitivity

    spread, fall = chance_of_width(between)
    # The gradient runs from the last point to the first.
    return Drift(
        points[-1], points[0], size(points[-1]), size(points[0]), _way(points[1:]), spread, fall
    )
