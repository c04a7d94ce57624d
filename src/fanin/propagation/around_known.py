"""An elementwise function of a tensor around values that are known: softplus(W x + bias).

A kept bias is no Gaussian about 0 that lends each place a power: it moves the argument.  Where a
function reads the sum of known values b and of a Gaussian tensor r, it is therefore evaluated at
each of them: φ(b + r) has Hermite coefficients a_k(b), and a pair of places between which r has
the correlation c has E[φ φ′] = Σ a_k(b) a_k(b′) c^k.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fanin.graph.graph import Ref
from fanin.propagation import profile as profiles
from fanin.propagation.algebra import aligned, scaled
from fanin.propagation.call import Call, functional_name
from fanin.propagation.data_moments import pair_moments_of
from fanin.propagation.layout import atoms_of
from fanin.propagation.profile import MOST_PLACES, Profile, even, settled
from fanin.propagation.quadrature import NODES, WEIGHTS, Array, hermite_coefficients
from fanin.propagation.state import State, distributed, gaussian

MOST_KNOWN = 128
"""Distinct known values that a function is evaluated at."""
_CLOSE = 0.05
"""Known values whose spread is below this share of their root mean square are one value."""


@dataclass(frozen=True)
class Around:
    """The argument b + √power · std · z of a function, place by place.

    Args:
        levels: b of each kind of place.
        stds: of r there.
        kinds: which kind a place is, an array that broadcasts to the tensor's shape.
        rest: r.
    """

    levels: Array
    stds: Array
    kinds: np.ndarray
    rest: State

    def on_nodes(self) -> Array:
        """The argument on the nodes, one row for every kind of place."""
        return np.asarray(self.levels[:, None] + self.stds[:, None] * NODES)


def around_known(call: Call) -> Around | None:
    """What the operation's argument is the sum of; None where it is not such a sum."""
    (tensor,) = call.operation.inputs if len(call.operation.inputs) == 1 else (None,)
    maker = None if tensor is None else call.graph.producer.get(tensor)
    if maker is None or functional_name(maker.name) not in ("add", "sub") or maker.kwargs:
        return None
    refs = [a.tensor for a in maker.args[:2] if isinstance(a, Ref)]
    if len(refs) != 2:
        return None
    one, two = (call.states[t] for t in refs)
    if functional_name(maker.name) == "sub":
        two = scaled(two, -1.0)
    known, rest = (one, two) if one.known is not None else (two, one)
    # About 0 a scale mixture says it: signs do not matter to what is added.
    if known.known is None or rest.known is not None or known.mean**2 < known.variance:
        return None
    if known.variance <= _CLOSE**2 * known.second_moment or rest.variance == 0.0:
        return None
    if rest.mean**2 > 1e-3 * rest.second_moment:
        return None
    under, _ = aligned(rest, known)
    rank = len(under.axes)
    value = known.known.double().numpy()
    levels, of_level = _distinct(value.reshape((1,) * (rank - value.ndim) + value.shape))
    powers, _, of_power = profiles.levels(even(under.profile, rank))
    if np.prod(np.broadcast_shapes(of_level.shape, of_power.shape)) > MOST_PLACES:
        return None
    stds = np.sqrt(powers * under.second_moment)
    kinds = of_level * len(powers) + of_power
    return Around(np.repeat(levels, len(powers)), np.tile(stds, len(levels)), kinds, under)


def _distinct(values: Array) -> tuple[Array, np.ndarray]:
    """The distinct values, neighbours joined where they are many, and which one a place has."""
    found, places = np.unique(values, return_inverse=True)
    if len(found) > MOST_KNOWN:
        edges = np.quantile(values, np.linspace(0, 1, MOST_KNOWN + 1)[1:-1])
        places = np.searchsorted(edges, values.ravel())
        counts = np.bincount(places, minlength=MOST_KNOWN)
        sums = np.bincount(places, weights=values.ravel(), minlength=MOST_KNOWN)
        found = sums / np.maximum(counts, 1)
    return found, places.reshape(values.shape)


def function_around(around: Around, values: Array) -> State:
    """The state of a function of such a sum, given its values on the nodes, a row per place."""
    kinds, rest = around.kinds, around.rest
    times = np.bincount(kinds.ravel(), minlength=len(values)) / kinds.size
    means, squares = values @ WEIGHTS, values**2 @ WEIGHTS
    profile, q = settled(squares[kinds])
    coefficients = np.array([hermite_coefficients(row) for row in values])
    left = float(times @ (squares - (coefficients**2).sum(axis=1)))
    c = np.clip(rest.base.correlations, -1.0, 1.0)
    pairs = np.zeros_like(rest.pairs)
    for k in range(coefficients.shape[1]):
        pairs = pairs + _agreeing(coefficients[kinds, k], rest) * c**k
    pairs = pairs + left * c ** coefficients.shape[1]
    made = gaussian(rest.axes, float(times @ means), pairs * (q / pairs.flat[0]), profile=profile)
    made = made.with_flags(rest)
    return distributed(
        made, _mixed(values / np.sqrt(np.maximum(squares, 1e-300) / q)[:, None], times, q)
    )


def _agreeing(values: Array, state: State) -> Array:
    """E[v v′] of numbers at the places, for every kind of pair of the tensor's elements."""
    lengths = [
        n
        for axis, m in zip(state.axes, values.shape, strict=True)
        for n in (axis if m != 1 else (1,) * len(axis))
    ]
    found = pair_moments_of(values.reshape(lengths)) if lengths else np.asarray(values.mean() ** 2)
    return np.broadcast_to(found, (2,) * len(atoms_of(state.axes)))


def _mixed(rows: Array, times: Array, q: float) -> Array:
    """One increasing function of a normal number with the distribution of all rows together."""
    mass, flat = np.outer(times, WEIGHTS).ravel(), rows.ravel()
    order = np.argsort(flat)
    places = np.cumsum(mass[order]) - mass[order] / 2
    found = np.interp(np.cumsum(WEIGHTS) - WEIGHTS / 2, places, flat[order])
    power = float(WEIGHTS @ found**2)
    return np.asarray(found * (q / power) ** 0.5) if power > 0 else found


def slopes_around(around: Around, slope: Callable[[Array], Array]) -> tuple[float, Profile]:
    """E[φ′²] over all places, and where it is large."""
    squares = slope(around.on_nodes().ravel()).reshape(-1, len(NODES)) ** 2 @ WEIGHTS
    profile, mean = settled(squares[around.kinds])
    return mean, profile
