"""Covariance of two parts: of one tensor, of a sequence's steps, the same part of two tensors."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from fanin.graph.graph import Graph, Ref
from fanin.propagation.call import functional_name
from fanin.propagation.layout import fit, plain_axes
from fanin.propagation.places import Place, Step, place_of, step_of
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State

COPIES = {"clone", "detach", "alias", "contiguous", "_to_copy", "dropout_identity"}


class Between(Protocol):
    """Covariance of two whole tensors, under the axes of the first; None for 0."""

    def __call__(self, one: int, two: int, left: int) -> Array | None:
        """At most ``left`` steps back."""


def covariance_of_parts(
    graph: Graph, states: Mapping[int, State], between: Between, one: int, two: int, left: int
) -> tuple[Array | None] | None:
    """Two parts of one tensor, or the same part of two; None where they are no such thing."""
    a, b = (place_of(graph, tensor) for tensor in (one, two))
    if a.root in (one, b.root) and b.root == two and a.root != b.root:
        return None
    if a.alive != b.alive or states[one].shape != states[two].shape:
        return None
    apart = [d for d, (i, j) in enumerate(zip(a.offsets, b.offsets, strict=False)) if i != j]
    if a.root == b.root:
        if not apart:
            return None
        found = _two_steps(graph, states, between, (a, b), apart, left)
        if found is not None:
            return (_cut(found, states[a.root], a.alive, (), states[one]),)
        root = states[a.root]
        return (_cut(root.pairs - root.mean**2, root, a.alive, apart, states[one]),)
    if apart or states[a.root].shape != states[b.root].shape or (a.root, b.root) == (one, two):
        return None
    whole = between(a.root, b.root, left - 1)
    if whole is None:
        return (None,)
    return (_cut(whole, states[a.root], a.alive, (), states[one]),)


def _cut(
    pairs: Array, root: State, alive: Sequence[int], apart: Sequence[int], made: State
) -> Array:
    """Pairs of parts of a tensor: axes along which they lie apart differ in any case."""
    axes = plain_axes(root.shape)
    found = fit(pairs, root.axes, axes)
    for dim in reversed(range(len(axes))):
        if not axes[dim]:
            continue
        at = sum(len(axis) for axis in axes[:dim])
        stays = dim in alive
        place = list(alive).index(dim) if stays else 0
        single = not stays or made.shape[place] == 1
        picked = np.take(found, 1 if dim in apart else 0, at)
        if single:
            found = picked
        elif dim in apart:
            found = np.stack([picked, picked], axis=at)
    return fit(found, plain_axes(made.shape), made.axes)


def _two_steps(
    graph: Graph,
    states: Mapping[int, State],
    between: Between,
    places: tuple[Place, Place],
    apart: Sequence[int],
    left: int,
) -> Array | None:
    """Two steps of a sequence that was stacked up: those steps, through the layers since."""
    a, b = places
    if len(apart) != 1 or apart[0] in a.alive:
        return None
    (axis,) = apart
    one, two = (step_of(graph, p.root, axis, p.offsets[axis]) for p in (a, b))
    if one is None or two is None or not _same_weights(graph, one, two):
        return None
    root = states[a.root]
    shared = total = 0.0
    for (x, share), (y, _) in zip(one.parts, two.parts, strict=True):
        part = between(x, y, left - 1)
        shared += 0.0 if part is None else share * float(part.flat[0])
        total += share * (states[x].variance * states[y].variance) ** 0.5
    found = np.zeros_like(root.pairs)
    # A share of the steps' variance passes fresh matrices as all of it does.
    found.flat[0] = shared / total * root.variance if total > 0 else 0.0
    return found


def _same_weights(graph: Graph, one: Step, two: Step) -> bool:
    roots = [[under_copies(graph, Ref(w)) for w in step.weights] for step in (one, two)]
    return roots[0] == roots[1] and len(one.parts) == len(two.parts)


def under_copies(graph: Graph, ref: object) -> int | None:
    """The tensor under transposes and copies; None for what is no tensor."""
    if not isinstance(ref, Ref):
        return None
    tensor = ref.tensor
    while (maker := graph.producer.get(tensor)) is not None:
        if functional_name(maker.name) not in {"t", "transpose"} | COPIES:
            break
        first = maker.args[0]
        if not isinstance(first, Ref):
            break
        tensor = first.tensor
    return tensor
