"""Covariance of two tensors that share ancestors, by going back through what made them.

The residual stream and the end of its branch are uncorrelated when the branch ends in a fresh
zero-mean matrix that the stream has not met; that is nearly always so, and the first thing
asked.  Where it is not (one matrix used twice, x plus a norm or an average of x, two sums with a
common term), the later of the two is taken apart by the operation that made it.
"""

import numpy as np

from fanin.graph.graph import Operation, Ref
from fanin.propagation.algebra import aligned
from fanin.propagation.ancestry import ancestors
from fanin.propagation.call import Call, functional_name
from fanin.propagation.contraction import contracted_pairs
from fanin.propagation.covariance_of_parts import COPIES, covariance_of_parts, under_copies
from fanin.propagation.layout import broadcast_axes, fit, fit_flat, shape_of
from fanin.propagation.places import place_of
from fanin.propagation.quadrature import NODES, Array, expectation
from fanin.propagation.state import State
from fanin.propagation.twins import twins

DEEPEST = 200
"""Steps back before two tensors are taken for unrelated; each nests up to four calls of Python's
thousand."""
MOST_STEPS = 4000
"""Pairs looked at for one of them."""

_NORMS = {"native_layer_norm", "native_batch_norm", "native_group_norm", "cudnn_batch_norm",
          "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
          "_fused_rms_norm"}  # fmt: skip
_AVERAGES = {"mean", "avg_pool1d", "avg_pool2d", "avg_pool3d"}
_RESHAPES = {"view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "flatten", "_reshape_alias"}


def _broadcast(pairs: Array, given: State, wanted: State) -> Array | None:
    """Pairs of a tensor with axes of length 1 under the axes of the one that it meets."""
    if len(given.axes) > len(wanted.axes):
        return None
    axes, (found,), _ = broadcast_axes(given.axes, (pairs,), wanted.axes, ())
    if shape_of(axes) != wanted.shape:
        return None
    return fit(np.asarray(found), axes, wanted.axes)


def covariance(call: Call, one: int, two: int) -> Array | float:
    """E[x y′] − E[x]E[y] for every kind of pair, under the axes of x + y; 0.0 for none."""
    masks = ancestors(call.graph)
    if not masks.get(one, 0) & masks.get(two, 0):
        return 0.0
    finder = _Finder(call, masks)
    found = finder.between(one, two, DEEPEST)
    if not finder.given_up:
        call.parts.covariances.update(finder.known)
    if found is None:
        return 0.0
    a, b = aligned(call.states[one], call.states[two])
    axes, arrays, _ = broadcast_axes(call.states[one].axes, (found,), b.axes, ())
    bound = np.sqrt(a.variance * b.variance)
    return np.clip(fit(arrays[0], axes, a.axes), -bound, bound)


class _Finder:
    """Covariances under the axes of the first tensor; None for 0."""

    def __init__(self, call: Call, masks: dict[int, int]) -> None:
        self.call, self.masks, self.graph = call, masks, call.graph
        self.known: dict[tuple[int, int], Array | None] = {}
        self.given_up = False
        self.steps = 0

    def between(self, one: int, two: int, left: int) -> Array | None:
        """Covariance array under ``one``'s axes; both have one shape, or ``two`` broadcasts."""
        if (one, two) in self.known:
            return self.known[one, two]
        earlier = self.call.parts.covariances
        if (one, two) in earlier:
            return earlier[one, two]
        self.steps += 1
        if left == 0 or self.steps > MOST_STEPS:
            self.given_up = True
            return None
        if not self.masks.get(one, 0) & self.masks.get(two, 0):
            return None
        self.known[one, two] = None
        found = self._between(one, two, left)
        self.known[one, two] = found
        return found

    def _between(self, one: int, two: int, left: int) -> Array | None:
        states = self.call.states
        x, y = states[one], states[two]
        if one == two:
            return x.pairs - x.mean**2
        if x.base.key == y.base.key and x.shape == y.shape and x.base.std > 0:
            # Two functions of one Gaussian: the linear parts carry nearly all of it.
            slope = expectation(x.values * NODES) * expectation(y.values * NODES)
            extra = expectation((x.values - x.mean) * (y.values - y.mean)) - slope
            c = x.base.correlations
            return slope * c + extra * c**2
        if twins(self.call, one, two):
            return x.pairs - x.mean**2
        later, other = (two, one) if self._when(two) > self._when(one) else (one, two)
        part = covariance_of_parts(self.graph, states, self.between, one, two, left)
        if part is not None:
            return part[0]
        operation = self.graph.producer.get(later)
        if operation is None:
            return None
        found = self._apart(operation, later, other, left - 1)
        if found is None:
            return None
        # ``found`` is under the axes of ``later``.
        if later == one:
            return found
        if states[one].shape != states[two].shape:
            return _broadcast(found, states[two], states[one])
        return fit(found, states[two].axes, states[one].axes)

    def _when(self, tensor: int) -> int:
        """When its numbers were made: a part is as old as the whole."""
        operation = self.graph.producer.get(place_of(self.graph, tensor).root)
        return -1 if operation is None else operation.index

    def _apart(self, operation: Operation, later: int, other: int, left: int) -> Array | None:
        """Covariance of ``later`` (made by ``operation``) with ``other``, under later's axes."""
        states, name = self.call.states, functional_name(operation.name)
        made = states[later]
        refs = [a.tensor if isinstance(a, Ref) else None for a in operation.args]
        if name in COPIES and refs and refs[0] is not None:
            return self.between(refs[0], other, left)
        if name in ("add", "sub"):
            alpha = float(operation.kwargs.get("alpha", 1)) * (-1.0 if name == "sub" else 1.0)
            total: Array | None = None
            for ref, factor in zip(refs[:2], (1.0, alpha), strict=False):
                if ref is None or states[ref].shape != made.shape:
                    continue
                part = self.between(ref, other, left)
                if part is not None:
                    part = factor * fit(part, states[ref].axes, made.axes)
                    total = part if total is None else total + part
            return total
        if name in ("mul", "div") and refs and refs[0] is not None:
            return self._scaled(operation, refs, other, left)
        if (
            name in _AVERAGES
            and refs[0] is not None
            and states[refs[0]].base.key == states[other].base.key
        ):
            # x and an average of what x is among: E[x m] = E[m²].
            return made.pairs - made.mean**2
        if name in _NORMS and refs[0] is not None:
            x = states[refs[0]]
            part = self.between(refs[0], other, left)
            scale = made.variance / x.variance if x.variance > 0 else 0.0
            return None if part is None else part * np.sqrt(scale)
        if name in _RESHAPES and refs[0] is not None:
            return self._same_view(operation, refs[0], other, left)
        if name in ("mm", "addmm"):
            return self._product(operation, name, later, other, left)
        source = refs[0] if refs else None
        if source is not None and made.base.key == states[source].base.key and made.base.std > 0:
            # Elementwise (Stein): cov(φ(x), y) = E[φ′] cov(x, y) for Gaussian x and y.
            x = states[source]
            own = expectation(x.values * NODES)
            part = self.between(source, other, left)
            if part is None or own == 0.0:
                return None
            return part * (expectation(made.values * NODES) / own)
        return None

    def _scaled(
        self, operation: Operation, refs: list[int | None], other: int, left: int
    ) -> Array | None:
        states = self.call.states
        made = states[operation.outputs[0]]
        source = next(
            (
                r
                for r in refs[:2]
                if r is not None
                and states[r].shape == made.shape
                and self.masks.get(r, 0) & self.masks.get(other, 0)
            ),
            None,
        )
        if source is None:
            return None
        part = self.between(source, other, left)
        if part is None:
            return None
        rest = [a for a in operation.args[:2] if not (isinstance(a, Ref) and a.tensor == source)]
        if not rest:
            return None
        factor = states[rest[0].tensor].mean if isinstance(rest[0], Ref) else float(rest[0])
        if operation.name.startswith("div"):
            factor = 1 / factor if factor else 0.0
        return factor * fit(part, states[source].axes, made.axes)

    def _same_view(self, operation: Operation, source: int, other: int, left: int) -> Array | None:
        states = self.call.states
        made = states[operation.outputs[0]]
        twin = self.graph.producer.get(other)
        if twin is not None and functional_name(twin.name) in _RESHAPES:
            ref = twin.args[0]
            if isinstance(ref, Ref) and states[ref.tensor].shape == states[source].shape:
                part = self.between(source, ref.tensor, left)
                return None if part is None else fit_flat(part, states[source].axes, made.axes)
        if states[source].shape == made.shape:
            return self.between(source, other, left)
        return self._viewed(source, other, made.shape, left)

    def _viewed(self, source: int, other: int, shape: tuple[int, ...], left: int) -> Array | None:
        """``other`` seen under the shape of ``source``: a tensor that it was reshaped from."""
        states = self.call.states
        seeking = other
        for _ in range(8):
            maker = self.graph.producer.get(seeking)
            if maker is None or functional_name(maker.name) not in COPIES | _RESHAPES:
                break
            ref = maker.args[0]
            if not isinstance(ref, Ref):
                break
            seeking = ref.tensor
            if states[seeking].shape == states[source].shape:
                part = self.between(source, seeking, left)
                if part is None or states[other].shape != shape:
                    return None
                return fit_flat(part, states[source].axes, states[other].axes)
        return None

    def _product(
        self, operation: Operation, name: str, later: int, other: int, left: int
    ) -> Array | None:
        """X W and y W with one W: n σ² cov(x, y); 0 for another W of zero mean."""
        states = self.call.states
        twin = self.graph.producer.get(other)
        if twin is None or functional_name(twin.name) not in ("mm", "addmm"):
            return None
        position = 1 if name == "addmm" else 0
        other_position = 1 if functional_name(twin.name) == "addmm" else 0
        mine, its = (
            operation.args[position : position + 2],
            twin.args[other_position : other_position + 2],
        )
        if under_copies(self.graph, mine[1]) != under_copies(self.graph, its[1]):
            return None
        x, y = mine[0].tensor, its[0].tensor
        if states[x].shape != states[y].shape:
            return None
        part = self.between(x, y, left)
        if part is None:
            return None
        weight = states[mine[1].tensor]
        _, pairs, _ = contracted_pairs(
            (states[x].axes, part), (weight.axes, weight.pairs), "ik", "kj", "ij"
        )
        return np.asarray(pairs)
