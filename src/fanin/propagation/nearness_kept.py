"""Which places of a tensor are alike, through operations that leave places where they are."""

from collections.abc import Iterable

import numpy as np

from fanin.propagation.call import Call
from fanin.propagation.layout import atom_range, fit, plain_axes
from fanin.propagation.nearness import (
    NONE,
    Near,
    kept,
    kernel_of,
    mixed,
    of_axis,
    off_diagonal,
    settled,
)
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State

MOVING = {"transpose", "permute", "t", "flip", "roll", "rot90", "view", "_unsafe_view", "reshape",
          "as_strided", "sort", "gather", "index", "convolution"}  # fmt: skip
"""Operations behind which a place of equal number need not be the same place."""
_TOGETHER = {"cat", "concat", "concatenate"}


def keep_nearness(call: Call, made: State | None) -> None:
    """Hand the nearness of what an operation reads on to its first output.

    Rules that resize or mix places have left their own before.
    """
    out = call.operation.outputs[0]
    if made is None or out in call.parts.near or call.name in MOVING:
        return
    read = [t for t in call.operation.inputs if call.parts.near.get(t)]
    if not read:
        return
    if call.name in _TOGETHER:
        read = call.tensors(0)
    elif call.name in ("add", "sub"):
        read = [t for t in call.operation.inputs if call.states[t].shape == made.shape]
    parts = []
    for t in read:
        state = call.states[t]
        near = kept(call.parts.near.get(t, NONE), state.shape, made.shape)
        parts.append((state.variance * float(np.prod(state.shape)), near))
    call.parts.near[out] = parts[0][1] if len(parts) == 1 else mixed(parts)


def of_products(
    total: Array, parts: Iterable[tuple[Array, Array | float, Near]], state: State, own: Near
) -> tuple[Array, Near]:
    """Pair moments and R of a sum of gradients, each times a function of the tensor it belongs to.

    Neighbours that are alike in both are so in the product, whose average over all pairs is then
    more than the product of the averages.

    Args:
        total: pair moments of the sum as products of averages.
        parts: pair moments of a gradient and of the function, and which places of the former are
            alike.
        state: of the tensor.
        own: which of its places are alike.
    """
    terms = list(parts)
    plain, shape = plain_axes(state.shape), state.shape
    made = {}
    for d, n in {d: len(r) for _, _, near in terms for d, r in near.items()}.items():
        kernel, level = np.zeros((n, n)), 0.0
        for pairs, factor, near in terms:
            same, differ = of_axis(fit(pairs, state.axes, plain), shape, d)
            one, two = (factor, factor) if isinstance(factor, float) else of_axis(
                fit(factor, state.axes, plain), shape, d)  # fmt: skip
            kernel += kernel_of(near.get(d), n, same, differ) * kernel_of(own.get(d), n, one, two)
            level += differ * two
        found = settled(kernel)
        if found is not None:
            made[d] = found
        apart = float(np.trace(kernel)) / n - level
        if len(state.axes[d]) == 1 and apart > 0:
            at, more = atom_range(state.axes, d).start, (off_diagonal(kernel) - level) / apart
            agree, other = np.take(total, 0, at), np.take(total, 1, at)
            total = np.stack([agree, other + more * (agree - other)], axis=at)
    return total, made
