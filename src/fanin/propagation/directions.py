"""In how many directions the features of a tensor vary, one token against another.

Tokens of m independent features have E[cos²] = 1/m between two of them. It is more where a matrix
made them of fewer features, and where a matrix over tokens made them of fewer tokens: sums of T
tokens lie in T directions, in one where all T are the same.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod

import numpy as np

from fanin.graph.graph import Graph, Operation
from fanin.propagation.algebra import mean_pairs
from fanin.propagation.attention_parts import data_argument, is_weight
from fanin.propagation.call import functional_name
from fanin.propagation.layout import atom_range, atoms_of
from fanin.propagation.norm_power import chi_square
from fanin.propagation.quadrature import NODES, expectation, pair_moments
from fanin.propagation.state import State

_LINEAR = {"view", "_unsafe_view", "reshape", "clone", "contiguous", "alias", "detach", "_to_copy",
           "mul", "add", "native_dropout", "dropout", "unsqueeze", "sub", "slice", "split",
           "split_with_sizes", "expand"}  # fmt: skip
_VIEWS = {"view", "_unsafe_view", "reshape", "clone", "contiguous", "alias", "_to_copy"}
_TURNED = {"t", "transpose", "permute"}
_FURTHEST = 24


def inverse_directions(
    graph: Graph, states: Mapping[int, State], tensor: int, left: int = _FURTHEST
) -> float:
    """Σλ²/(Σλ)² of the spectrum of a tensor's features: one over its independent directions.

    A fresh matrix to m features adds 1/m to what its input has; the terms of a sum count by their
    powers, tr (A + B)² = tr A² + tr B² + 2 tr A tr B/m. Behind a nonlinearity, a table or a batch
    the features count as independent, as far as their correlation says; what few directions there
    are before a nonlinearity is left behind it as far as it is straight.
    """
    return _Search(graph, states).along(tensor, len(atoms_of(states[tensor].axes)) - 1, left)


def uneven_tokens(
    graph: Graph, states: Mapping[int, State], tensor: int, left: int = _FURTHEST
) -> float:
    """How far tokens differ in power that a matrix over tokens made; 0 for others.

    What is divided by the power of Gaussian sums in few directions is 1/Σ λ z² = ∫ Π (1 + 2 λ t)^−½
    on average. Nothing but Σλ² is known of the spectrum, which is taken as geometric: equally
    strong directions would leave no last one that keeps the power from 0.

    Returns:
        Relative variance of a Γ distribution with that mean of 1/p.
    """
    search = _Search(graph, states)
    square = search.uneven(tensor, len(atoms_of(states[tensor].axes)) - 1, left) / 2
    return _in_geometric_spectrum(round(min(square, 0.98), 3)) if square > 0 else 0.0


@lru_cache(maxsize=1024)
def _in_geometric_spectrum(square: float) -> float:
    ratio = (1 - square) / (1 + square)
    spectrum = ratio ** np.arange(400)
    spectrum = spectrum / spectrum.sum()
    t = np.exp(np.linspace(-16.0, 16.0, 801))
    inverse = np.trapezoid(t * np.prod((1 + 2 * np.outer(t, spectrum)) ** -0.5, axis=1), np.log(t))
    return float(1 - 1 / max(inverse, 1.0))


class _Search:
    """What was found of the tensors on the way back, the features along any atom of their axes."""

    def __init__(self, graph: Graph, states: Mapping[int, State]) -> None:
        self._graph = graph
        self._states = states
        self._found: dict[tuple[int, int], float] = {}

    def along(self, tensor: int, features: int, left: int) -> float:
        """``inverse_directions`` of a tensor, its features along an atom of its axes."""
        key = tensor, features
        if key not in self._found:
            self._found[key] = self._along(tensor, features, left)
        return self._found[key]

    def _along(self, tensor: int, features: int, left: int) -> float:
        graph, states = self._graph, self._states
        state = states[tensor]
        atoms = atoms_of(state.axes)
        own = _from_correlations(state, features)
        maker = graph.producer.get(tensor)
        if maker is None or left == 0 or not atoms:
            return own
        name = functional_name(maker.name)
        if name in ("mm", "addmm"):
            data = data_argument(graph, maker)
            if data is None or data not in states:
                return own
            last = len(atoms_of(states[data].axes)) - 1
            if features == len(atoms) - 1:
                return min(own + self.along(data, last, left - 1), 1.0)
            return max(own, self._of_mixed_tokens(data, features, left - 1))
        if name == "convolution":
            return min(own + self._of_channels(maker, features, left - 1), 1.0)
        if name in _TURNED:
            before = _before_turning(states[maker.inputs[0]], maker, features)
            return own if before is None else self.along(maker.inputs[0], before, left - 1)
        varying = {
            t: place for t in maker.inputs
            if t in states and not is_weight(graph, t)
            and (place := _place(states[t], state, features)) is not None
        }  # fmt: skip
        if not varying:
            return own
        if name == "cat":
            return self._of_parts(maker, varying, atoms[features], left - 1)
        parts = [self.along(t, place, left - 1) for t, place in varying.items()]
        if name == "add" and len(varying) == 2:
            powers = np.array([states[t].variance for t in varying])
            if powers.sum() <= 0:
                return own
            one, two = powers / powers.sum()
            # Two spectra that know nothing of each other meet in each of m directions alike.
            return float(one**2 * parts[0] + two**2 * parts[1] + 2 * one * two / atoms[features])
        first = next(iter(varying))
        if name in _LINEAR or "norm" in name:
            return max(own, parts[0])
        if states[first].base.key == state.base.key:
            uneven = self.uneven(first, varying[first], left - 1)
            return max(own, _behind_function(states[first], state, parts[0], uneven))
        return own

    def _of_mixed_tokens(self, data: int, features: int, left: int) -> float:
        """Behind a matrix over T tokens, which are the last axis of what it reads.

        Σ w x over tokens has, given these, the covariance Σ x xᵀ: each of them counts once with
        itself, strong ones by the square of their power, and with T − 1 others, with which it has
        E[cos²] = ρ² + (1 − ρ²)/n in common.
        """
        state = self._states[data]
        atoms = atoms_of(state.axes)
        if features >= len(atoms) - 1 or state.second_moment <= 0 or len(state.axes[-1]) != 1:
            return 0.0
        inner, tokens = self.along(data, features, left), atoms[-1]
        apart = tuple(int(p == len(atoms) - 1) for p in range(len(atoms)))
        shared = min((float(state.pairs[apart]) / state.second_moment) ** 2, 1.0)
        uneven = self.uneven(data, features, left)
        itself = (1 + uneven) / (tokens + uneven)  # Σ p²/(Σ p)² of powers p that are χ²-like
        return itself + (1 - itself) * (shared + (1 - shared) * inner)

    def uneven(self, tensor: int, features: int, left: int) -> float:
        """Relative variance of the tokens' powers that a matrix over tokens has made.

        Gaussian sums that lie in n directions differ by 2/n in power.
        """
        graph, states = self._graph, self._states
        maker, state = graph.producer.get(tensor), states[tensor]
        if maker is None or left == 0 or not maker.inputs:
            return 0.0
        name = functional_name(maker.name)
        if name in ("mm", "addmm"):
            if features == len(atoms_of(state.axes)) - 1:
                return 0.0
            return 2 * self.along(tensor, features, left)
        source = maker.inputs[0]
        if name in _TURNED:
            before = _before_turning(states[source], maker, features)
            return 0.0 if before is None else self.uneven(source, before, left - 1)
        others = [t for t in maker.inputs[1:] if not is_weight(graph, t)]
        place = _place(states[source], state, features)
        if others or place is None or "norm" in name:
            return 0.0
        if name in _LINEAR:
            return self.uneven(source, place, left - 1)
        if states[source].base.key != state.base.key or state.second_moment <= 0:
            return 0.0
        # d ln E[φ²]/d ln E[z²] of rows of another power, by Stein's lemma.
        found = expectation(state.values**2 * (NODES**2 - 1)) / (2 * state.second_moment)
        return found**2 * self.uneven(source, place, left - 1)

    def _of_channels(self, convolution: Operation, features: int, left: int) -> float:
        """Behind a convolution, whose channels read those of its input at a few places."""
        given = self._states[convolution.inputs[0]]
        channels = atom_range(given.axes, 1)
        made = atom_range(self._states[convolution.outputs[0]].axes, 1)
        if bool(convolution.args[6]) or int(convolution.args[8]) != 1:
            return 0.0
        if len(channels) != 1 or features not in made or given.variance <= 0:
            return 0.0
        inner = self.along(convolution.inputs[0], channels[0], left)
        taps = float(np.prod(self._graph.tensors[convolution.inputs[1]].shape[2:]))
        places = [p for d in range(2, len(given.axes)) for p in atom_range(given.axes, d)]
        apart = given.pairs[tuple(int(p in places) for p in range(given.pairs.ndim))]
        shared = float(np.clip((apart - given.mean**2) / given.variance, 0.0, 1.0)) ** 2
        return inner * (1 / taps + (1 - 1 / taps) * shared)

    def _of_parts(
        self, cat: Operation, varying: Mapping[int, int], features: int, left: int
    ) -> float:
        """Two tokens of one part have its directions in common, those of two parts none."""
        dim = int(cat.args[1]) if len(cat.args) > 1 else 0
        counts = {t: self._states[t].shape[dim] for t in varying}
        total = sum(counts.values())
        found = 1 / features
        for t, place in varying.items():
            share = (counts[t] / total) ** 2
            found += share * (self.along(t, place, left) - 1 / features)
        return found


def _behind_function(before: State, made: State, inner: float, uneven: float) -> float:
    """E[cos²] of two tokens behind a function of each number, what all have in common taken off.

    Two numbers of correlation r become two of κ(r); for tokens of one direction r is 1 or −1. Of
    tokens that differ in power each is bent at its own.

    Args:
        before: what the function was taken of.
        made: its values.
        inner: E[cos²] before.
        uneven: relative variance of the powers before.
    """
    if before.variance <= 0 or made.variance <= 0:
        return 0.0
    r = min(inner, 1.0) ** 0.5
    strengths, mass = chi_square(round(uneven, 3))
    places = (np.arange(_STRENGTHS) + 0.5) / _STRENGTHS
    roots = np.sqrt(np.interp(places, np.cumsum(mass) - mass / 2, strengths))
    bent = [np.interp(root * NODES, NODES, made.values) for root in roots]
    together, powers = 0.0, 0.0
    for one in bent:
        for two in bent:
            apart = expectation(one) * expectation(two)
            found = pair_moments(one, np.array([r, -r]), two) - apart
            together += float((found**2).mean())
        powers += expectation(one**2) - expectation(one) ** 2
    return together / powers**2 if powers > 0 else 0.0


_STRENGTHS = 5


def _place(one: State, two: State, features: int) -> int | None:
    """Where an operand holds the features of its result; None where it has others, or none."""
    given, made = atoms_of(one.axes), atoms_of(two.axes)
    if given == made:
        return features
    last = features == len(made) - 1 and one.axes and two.axes and one.axes[-1] == two.axes[-1]
    if last or (len(given) == len(made) and given[features] == made[features]):
        return len(given) - 1 if last else features
    if prod(given) != prod(made):
        return None
    # A view that splits or joins others: what lies before it says which one it is.
    before = prod(made[:features])
    found = [p for p, n in enumerate(given) if n == made[features] and prod(given[:p]) == before]
    return found[0] if found else None


def maker_of_features(
    graph: Graph, states: Mapping[int, State], tensor: int, left: int = _FURTHEST
) -> Operation | None:
    """The operation that made the last axis of a tensor, through views and transposes of it."""
    features = len(atoms_of(states[tensor].axes)) - 1
    for _ in range(left):
        maker = graph.producer.get(tensor)
        if maker is None or not maker.inputs or maker.inputs[0] not in states:
            return maker
        name, state, given = functional_name(maker.name), states[tensor], states[maker.inputs[0]]
        if name in _TURNED:
            place = _before_turning(given, maker, features)
        elif name in _VIEWS:
            place = _place(given, state, features)
        else:
            return maker
        if place is None:
            return None
        tensor, features = maker.inputs[0], place
    return None


def _before_turning(state: State, maker: Operation, features: int) -> int | None:
    """The atom that a transpose of this brought to that place."""
    given = state.axes
    rank = len(given)
    order = list(range(rank))
    if functional_name(maker.name) == "permute":
        order = [d % rank for d in maker.args[1]]
    else:
        i, j = maker.args[1:3] if len(maker.args) > 2 else (0, 1)
        order[i % rank], order[j % rank] = order[j % rank], order[i % rank]
    atoms: Sequence[int] = [p for d in order for p in atom_range(given, d)]
    return atoms[features] if features < len(atoms) else None


def _from_correlations(state: State, features: int) -> float:
    """Of features as alike as their correlation says."""
    rank = len(state.axes)
    if rank == 0 or not state.axes[-1] or state.variance <= 0:
        return 1.0
    correlations = (state.pairs - state.mean**2) / state.variance
    inside = atom_range(state.axes, rank - 1)
    if features in inside:
        return float(mean_pairs(correlations**2, state.axes, [rank - 1]).flat[0])
    axis = next(d for d in range(rank) if features in atom_range(state.axes, d))
    if len(state.axes[axis]) == 1:
        return float(mean_pairs(correlations**2, state.axes, [axis]).flat[0])
    n = atoms_of(state.axes)[features]
    apart = correlations[tuple(int(p == features) for p in range(correlations.ndim))]
    return float(1 / n + (1 - 1 / n) * apart**2)
