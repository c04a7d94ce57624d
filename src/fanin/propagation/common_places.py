"""What samples have in common, place by place, behind a batch norm.

Zeros round a map whose channels have means leave one pattern in all samples: places near the border
lack taps.  It lies in few directions, as many as there are kinds of borders, and so is strong in
one channel and weak in the next; where it is strong the norm has divided by it.  Of shares λ z² of
a channel's power Σ λ z² the norm leaves E[λ z²/Σ λ z²], less than λ for whatever is large and few.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from fanin.graph.graph import Operation
from fanin.propagation.call import Call, functional_name
from fanin.propagation.kernel import kernel_of
from fanin.propagation.layout import atom_range, atoms_of
from fanin.propagation.norm_neighbours import product_behind
from fanin.propagation.own_direction import eigenvalues, from_eigenvalues
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State
from fanin.propagation.taps import behind_padding

Borders = Mapping[int, int]
"""By axis, in how many directions the places of a pattern that padding made differ."""

_FURTHEST = 400
_THROUGH = {"constant_pad_nd", "native_dropout", "dropout", "clone", "alias", "_to_copy"}
_NONE = 1e-6
_TIMES = np.exp(np.linspace(-16.0, 12.0, 561))


@dataclass(frozen=True)
class Mode:
    """One kind of direction among the numbers of a channel.

    Args:
        index: of its eigenvalue.
        share: of the channel's power.
        directions: in which it lies.
        common: whether all samples have it.
    """

    index: tuple[int, ...]
    share: float
    directions: float
    common: bool


def modes_of(call: Call, centred: Array, view: State, dims: Sequence[int]) -> tuple[Mode, ...]:
    """The directions of the numbers that a batch norm normalises; none where they are many.

    Args:
        call: the norm.
        centred: their pair moments, means taken off.
        view: what is normalised.
        dims: over which the statistics run, samples first.
    """
    source, axes = call.tensor(0), view.axes
    if source is None or len(dims) < 2 or any(len(axes[d]) > 1 for d in dims[1:]):
        return ()
    borders = borders_of(call, source)
    atoms = atoms_of(axes)
    inside = [p for d in dims for p in atom_range(axes, d)]
    samples = len(axes[dims[0]])
    if not borders or centred.flat[0] <= 0:
        return ()
    values = np.maximum(eigenvalues(_of_one_channel(centred, inside), atoms, inside), 0.0)
    along = {atom_range(axes, d).start: borders.get(d) for d in dims[1:] if axes[d]}
    found, total = list[tuple[tuple[int, ...], float, float, bool]](), 0.0
    for bits in product((0, 1), repeat=len(inside)):
        index = [0] * centred.ndim
        for p, bit in zip(inside, bits, strict=True):
            index[p] = bit
        common = all(bits[:samples])
        count = prod(1 if bit else atoms[p] - 1 for p, bit in zip(inside, bits, strict=True))
        few = [1 if bit else along[p] or atoms[p] - 1
               for p, bit in zip(inside[samples:], bits[samples:], strict=True)]  # fmt: skip
        power = float(values[tuple(index)]) * count
        found.append((tuple(index), power, float(prod(few) if common else count), common))
        total += power
    return tuple(Mode(index, power / total, n, common) for index, power, n, common in found)


def spread_of_modes(modes: Sequence[Mode]) -> float:
    """Relative variance of a channel's power: 2 Σ λ² over its directions."""
    return sum(2 * mode.share**2 / mode.directions for mode in modes)


def left_by_norm(
    centred: Array, view: State, dims: Sequence[int], modes: Sequence[Mode], weights: float
) -> Array:
    """Pair moments behind a norm that divides each channel by its own power, of the same mean.

    Args:
        centred: of what is normalised.
        view: its axes.
        dims: over which the statistics run.
        modes: its directions.
        weights: relative variance of the power of a channel's weights, of which samples are made.
    """
    if not any(mode.common and mode.share > _NONE for mode in modes):
        return centred
    atoms = atoms_of(view.axes)
    inside = [p for d in dims for p in atom_range(view.axes, d)]
    counts = [m.directions if m.common else 1 / (1 / m.directions + weights / 2) for m in modes]
    each = [mode.share / n for mode, n in zip(modes, counts, strict=True)]
    none = np.exp(sum(-n / 2 * np.log1p(2 * s * _TIMES)
                      for s, n in zip(each, counts, strict=True)))  # fmt: skip
    factors = np.ones_like(_of_one_channel(centred, inside))
    for mode, s in zip(modes, each, strict=True):
        # E[z²/Σ λ z²] = ∫ (1 + 2 s t)⁻¹ Π (1 + 2 λ t)^(−½) dt
        inverse = np.trapezoid(_TIMES * none / (1 + 2 * s * _TIMES), np.log(_TIMES))
        factors[mode.index] = inverse
    found = from_eigenvalues(eigenvalues(centred, atoms, inside) * factors, atoms, inside)
    return np.asarray(found * (centred.flat[0] / found.flat[0]))


def _of_one_channel(pairs: Array, inside: Sequence[int]) -> Array:
    for position in range(pairs.ndim):
        if position not in inside:
            pairs = np.take(pairs, [0], position)
    return pairs


def borders_of(call: Call, tensor: int) -> Borders:
    """The borders that padding has left in a tensor; none where no padding made its pattern.

    Followed back through a chain of convolutions, norms and elementwise functions to a tensor of
    which no sample has anything in common with another.
    """
    chain, found = list[Operation](), dict[int, int]()
    for _ in range(_FURTHEST):
        product = product_behind(call, tensor)
        if product is None or product.name != "convolution" or bool(product.raw(6)):
            return {}
        known: Borders | None = call.parts.kept(product.operation, "borders")
        if known is not None:
            found = dict(known)
            break
        chain.append(product.operation)
        start = _start_of_elementwise(call, product.operation.inputs[0])
        if _places_alike(call.states[start]):
            break
        tensor = start
        maker = call.graph.producer.get(start)
        if maker is None or "batch_norm" not in maker.name:
            return {}
        tensor = maker.inputs[0]
    else:
        return {}
    for operation in reversed(chain):
        own = _of_padding(Call(call.graph, operation, call.states, call.parts))
        found = {d: min(max(found.get(d, 0), kinds), size - 1) for d, (kinds, size) in own.items()}
        call.parts.keep(operation, "borders", found)
    return found


def _start_of_elementwise(call: Call, tensor: int) -> int:
    """What a tensor is an elementwise function of, padded or not."""
    for _ in range(_FURTHEST):
        maker = call.graph.producer.get(tensor)
        if maker is None or not maker.inputs or "batch_norm" in maker.name:
            return tensor
        first = maker.inputs[0]
        same = call.states[tensor].base.key == call.states[first].base.key
        if not same and functional_name(maker.name) not in _THROUGH:
            return tensor
        tensor = first
    return tensor


def _places_alike(state: State) -> bool:
    """Whether what samples have in common is the same at all places."""
    if len(state.axes) < 3 or not state.axes[0]:
        return False
    samples, positions = len(state.axes[0]), [p for d in range(2, len(state.axes))
                                              for p in atom_range(state.axes, d)]  # fmt: skip
    other = tuple(slice(1, None) if p < samples else slice(None) if p in positions else slice(0, 1)
                  for p in range(state.pairs.ndim))  # fmt: skip
    return bool(np.ptp(state.pairs[other]) <= 0.02 * state.second_moment)


def _of_padding(call: Call) -> dict[int, tuple[int, int]]:
    """By axis of the output: kinds of places less one, by the taps that they lack, and its size."""
    kernel, (x, before) = kernel_of(call), behind_padding(call)
    space, shape = len(kernel.taps), call.shape()
    found = {}
    for k, (taps, stride, _, dilation) in enumerate(kernel.along_axes()):
        d = len(shape) - space + k
        size = x.shape[len(x.shape) - space + k]
        reads = np.arange(shape[d])[:, None] * stride - before[k] + np.arange(taps) * dilation
        kinds = np.unique((reads >= 0) & (reads < size), axis=0)
        found[d] = len(kinds) - 1, shape[d]
    return found
