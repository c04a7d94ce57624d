"""The power that a norm divides by is itself a random number where few numbers make it.

A channel of a batch norm has power a = q W S + ε: S is a mean of ν squares, χ²-like with relative
variance 2/ν; W = Σ w²/E[Σ w²] is that of the weights that made the channel, large in one and small
in the next. What a norm makes has the power E[q W S/a], and its gradient is divided by a: with one
weight a channel (depthwise, behind padding) or two samples E[1/a] has no value but for ε.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fanin.graph.graph import Graph, Operation, Ref
from fanin.propagation.call import Call
from fanin.propagation.few import rows_apart, spread_of_power, varies
from fanin.propagation.layout import atom_range
from fanin.propagation.quadrature import NODES, WEIGHTS, Array, expectation
from fanin.propagation.state import State
from fanin.propagation.taps import behind_padding, inverse_taps_of_places, reads_of_taps

_OVER_ROWS = ("native_layer_norm", "_fused_rms_norm", "rms_norm")
_PRODUCTS = ("convolution", "mm", "addmm")
VIEWS = {"view", "_unsafe_view", "reshape", "transpose", "permute", "clone", "_to_copy",
         "squeeze", "unsqueeze", "alias", "contiguous"}  # fmt: skip
_FURTHEST = 12
_MANY = 100.0
"""From here on the numbers behind a norm are as good as Gaussian."""
_POINTS = 160


@dataclass(frozen=True)
class NormPower:
    """The random power a = q W S + ε that a norm divides by.

    Args:
        power: q, the expected second moment of what is normalised, its mean taken off.
        eps: ε.
        spread: relative variance of S, 2/ν of ν independent numbers.
        weights: relative variance of W, 2/m of m independent weights; for norms of rows, of what
            the rows have that were read.
        uneven: relative variance of the powers of the numbers of one channel, 0 for Gaussians.
        bounded: 2/ν of the ν numbers that are divided by their own power.
    """

    power: float
    eps: float
    spread: float = 0.0
    weights: float = 0.0
    uneven: float = 0.0
    bounded: float = 0.0

    def expected(self, weighted: bool = False) -> tuple[float, float, float, float]:
        """E[β], E[1/a], E[β/a] and E[β²/a] for β = q W S/a, each times W where ``weighted``."""
        if self.power <= 0:
            inverse = 1 / self.eps if self.eps > 0 else 0.0
            return 0.0, inverse, 0.0, 0.0
        relative = float(f"{self.eps / self.power:.4g}")
        found = _expected(relative, round(self.spread, 5), round(self.weights, 5), weighted)
        return found[0], found[1] / self.power, found[2] / self.power, found[3] / self.power

    def through(self, weighted: bool = False) -> float:
        """Mean square of 1/√a along a direction that knows nothing of the numbers normalised."""
        _, inverse, one, two = self.expected(weighted)
        own = min(self.spread / 2, 1.0)
        return inverse - own * (2 * one - two)

    @property
    def taken_back(self) -> float:
        """E[W/a] over E[1/a]: on its way through the weights the gradient meets them again."""
        alone = self.through()
        return self.through(weighted=True) / alone if self.weights > 0 and alone > 0 else 1.0


@lru_cache(maxsize=4096)
def _expected(
    eps: float, spread: float, weights: float, weighted: bool
) -> tuple[float, float, float, float]:
    s, s_mass = chi_square(spread)
    w, w_mass = chi_square(weights)
    product = np.multiply.outer(w, s)
    mass = np.multiply.outer(w_mass * w if weighted else w_mass, s_mass)
    inverse = 1 / (product + eps)
    beta = product * inverse
    found = [beta, inverse, beta * inverse, beta**2 * inverse]
    one, two, three, four = (float((mass * values).sum()) for values in found)
    return one, two, three, four


@lru_cache(maxsize=1024)
def chi_square(relative_variance: float) -> tuple[Array, Array]:
    """Nodes and weights of a mean of squares: the Γ distribution of mean 1 and that variance.

    Even nodes of its logarithm t, whose density exp(k (t − eᵗ)) falls off fast on either side;
    1/x down to x = e⁻⁴⁰ is integrated too.
    """
    if relative_variance < 1e-6:
        return np.ones(1), np.ones(1)
    k = 1 / relative_variance
    reach = 40.0 / k  # where the density has fallen to e⁻⁴⁰ of its peak

    def beyond(t: float) -> bool:
        return bool(np.exp(t) - 1 - t > reach)

    ends = []
    for sign in (-1.0, 1.0):
        low, high = 0.0, 80.0 if sign < 0 else 8.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if beyond(sign * middle) else (middle, high)
        ends.append(sign * high)
    t = np.linspace(ends[0], ends[1], _POINTS)
    log_density = k * (t - np.exp(t))
    mass = np.exp(log_density - log_density.max())
    mass /= mass.sum()
    x = np.exp(t)
    return x / float(mass @ x), mass


def power_of_norm(
    call: Call, view: State, dims: Sequence[int], eps: float, *, centre: bool, power: float
) -> NormPower:
    """What a recorded norm divides by.

    Args:
        call: the norm.
        view: its input under the axes that the statistics run over.
        dims: those axes.
        eps: ε.
        centre: whether the mean is taken off.
        power: q.
    """
    source, spread = call.tensor(0), spread_of_power(view.pairs, view.axes, dims, centre)
    bounded = spread
    weights = uneven = 0.0
    if call.name in _OVER_ROWS and source is not None:
        spread, weights = rows_apart(varies(call, source, spread, 12), spread)
    behind = None if source is None else _product_behind(call, source)
    if behind is not None and call.name not in _OVER_ROWS:
        weights, uneven, factor = _by_weights(behind)
        spread *= factor
    return NormPower(power, eps, min(spread, 2.0), weights, uneven, bounded)


def _by_weights(call: Call) -> tuple[float, float, float]:
    """What few weights do to the numbers of a channel that a batch norm alone reads.

    A number Σ w x of n terms holds Σ w² x² and products of different terms; of its power's spread
    the share Σ w⁴/(Σ w²)², 3/(n + 2) on average, is that of x², and so much of the kurtosis of x
    is left.

    Returns:
        Relative variances of W among the channels and of the powers of a channel's numbers (at the
        border of a small map each place reads some of the weights), and the spread of S over that
        of Gaussian numbers.
    """
    reader = norm_behind(call)
    position = 1 if call.name == "addmm" else 0
    weight = call.state(position + 1)
    convolves = call.name == "convolution"
    x = behind_padding(call)[0] if convolves else call.state(position)
    if reader is None or weight.known is not None or x.variance <= 0:
        return 0.0, 0.0, 1.0
    if weight.mean**2 > 0.01 * weight.second_moment:
        return 0.0, 0.0, 1.0
    channels = weight.shape[1] if convolves else weight.shape[0]
    axis = len(x.shape) - len(weight.shape) + 1 if convolves else len(x.shape) - 1
    inputs = channels / (1 + (channels - 1) * _alike(x, axis) ** 2)
    together = alone = 2 / inputs
    if convolves:
        reads = reads_of_taps(call)
        together, alone = 2.0, 2 / inputs * inverse_taps_of_places(call)
        if reads.any():
            together = 2 / max(inputs * float(reads.sum() ** 2 / (reads**2).sum()), 1.0)
    places = max(alone - together, 0.0)
    own = 3 / (2 / alone + 2)
    squares = (x.values - x.mean) ** 2
    variance = expectation(squares)
    kurtosis = expectation(squares**2) / variance**2
    held = kurtosis - 1
    if channels == 1 and normalised_by_channel(call):
        # Of the same channel the norm before has fixed the mean square.
        held -= (expectation(squares * NODES**2) / variance - 1) ** 2 / 2
    uneven = places + own * max(kurtosis / 3 - 1, 0.0)
    return together, uneven, (1 - own) * (1 + places) + own * held / 2


def _alike(state: State, axis: int) -> float:
    """Correlation of two channels, over samples and positions: copies of one count as one."""
    inside = atom_range(state.axes, axis)
    if not inside:
        return 0.0
    elsewhere = tuple(int(p not in inside) for p in range(state.pairs.ndim))
    other = tuple(int(p in inside) for p in range(state.pairs.ndim))
    both = (1,) * state.pairs.ndim
    own = state.second_moment - float(state.pairs[elsewhere])
    shared = float(state.pairs[other]) - float(state.pairs[both])
    return float(np.clip(shared / own, 0.0, 1.0)) if own > 0 else 0.0


def normalised_by_channel(call: Call) -> bool:
    """Whether the input is an elementwise function of what a batch norm made, padded or not."""
    tensor = call.tensor(0)
    for _ in range(6):
        maker = None if tensor is None else call.graph.producer.get(tensor)
        if maker is None or not maker.inputs:
            return False
        if "batch_norm" in maker.name:
            return True
        first = maker.inputs[0]
        padded = maker.name == "constant_pad_nd"
        if not padded and call.states[maker.outputs[0]].base.key != call.states[first].base.key:
            return False
        tensor = first
    return False


def _product_behind(call: Call, tensor: int) -> Call | None:
    """The convolution or matrix product that made a tensor, seen through views."""
    for _ in range(_FURTHEST):
        maker = call.graph.producer.get(tensor)
        if maker is None:
            return None
        if maker.name in _PRODUCTS:
            return Call(call.graph, maker, call.states, call.parts)
        first = maker.args[0] if maker.name in VIEWS else None
        if not isinstance(first, Ref):
            return None
        tensor = first.tensor
    return None


def norm_behind(call: Call) -> Operation | None:
    """The norm of single channels that alone reads this product, and takes their statistics.

    An instance norm is a batch norm of one sample whose channels are all channels of all samples.
    """
    if call.name == "convolution" and bool(call.raw(6)):
        return None
    tensor, channels = call.operation.outputs[0], call.shape()[1]
    for _ in range(_FURTHEST):
        reader = only_reader(call.graph, tensor)
        if reader is None:
            return None
        if "batch_norm" in reader.name:
            break
        if reader.name not in VIEWS:
            return None
        tensor = reader.outputs[0]
    else:
        return None
    if call.graph.tensors[tensor].shape[1] % channels:
        return None
    trains = reader.name == "_batch_norm_with_update" or (
        len(reader.args) > 5 and bool(reader.args[5]) and "no_training" not in reader.name
    )
    return reader if trains else None


def only_reader(graph: Graph, tensor: int) -> Operation | None:
    """The one operation that reads a tensor, copies aside of which nothing is made."""
    found = [r for r in graph.consumers.get(tensor, ())
             if not (r.name == "clone" and not graph.consumers.get(r.outputs[0]))]  # fmt: skip
    return found[0] if len(found) == 1 and found[0].outputs else None


def taken_back_by_weights(call: Call) -> float:
    """What the gradient behind a convolution is less than strangers would give.

    A batch norm divides it by small powers where the channel's weights happen to be small; the
    same small weights take it back on the way to the convolution's input.
    """
    reader = norm_behind(call)
    found: NormPower | None = None if reader is None else call.parts.kept(reader, "divided")
    return 1.0 if found is None else found.taken_back


@lru_cache(maxsize=256)
def normalised_values(spread: float, uneven: float) -> Array | None:
    """Values on the nodes of one of the numbers that a norm divides by their own power.

    ν such numbers lie on a sphere: √ν u with the density (1 − u²)^((ν − 3)/2), ±1 for ν = 1, even
    for ν = 3; where places are uneven, times the root of a place's power.

    Args:
        spread: 2/ν.
        uneven: relative variance of the powers of the places.

    Returns:
        Increasing values of mean square 1; None where they are as good as Gaussian.
    """
    if spread <= 2 / _MANY and uneven <= 1 / _MANY:
        return None
    values = NODES if spread <= 2 / _MANY else _on_a_sphere(max(2 / spread, 1.0))
    if uneven > 1 / _MANY:
        powers, mass = chi_square(uneven)
        values = spread_out(np.multiply.outer(values[::5], np.sqrt(powers[::4])).ravel(),
                            np.multiply.outer(WEIGHTS[::5], mass[::4]).ravel())  # fmt: skip
    return np.asarray(values / np.sqrt(float(WEIGHTS @ values**2)))


def _on_a_sphere(directions: float) -> Array:
    if directions < 1.1:
        return np.sign(NODES)
    # u = sin θ has the density cos^(ν − 2) θ; midpoints keep off its poles.
    edges = np.linspace(-np.pi / 2, np.pi / 2, 4001)
    theta = (edges[1:] + edges[:-1]) / 2
    return spread_out(np.sin(theta), np.cos(theta) ** (directions - 2))


def spread_out(values: Array, mass: Array) -> Array:
    """A symmetrical distribution as an increasing function on the nodes."""
    order = np.argsort(values)
    values, mass = values[order], mass[order] / mass.sum()
    found = np.interp(np.cumsum(WEIGHTS) - WEIGHTS / 2, np.cumsum(mass) - mass / 2, values)
    return np.asarray((found - found[::-1]) / 2)
