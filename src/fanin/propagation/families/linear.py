"""Matrix products: linear layers, attention's two products, einsum's parts.

E[y y′] = Σ E[a a′]·E[b b′] over the pairs of summed terms, which a layer with a fresh zero-mean
matrix turns into q′ = n_in σ² q and attention into Σ a² q_v + Σ a a′ ρ q_v.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np

from fanin.propagation.algebra import added, scaled
from fanin.propagation.alignment import averaged_values, queries_of_product, raised, tied_power
from fanin.propagation.call import Call
from fanin.propagation.carrying import contracted
from fanin.propagation.cosines import bounded_cosines
from fanin.propagation.echo import echo, left_of_rows
from fanin.propagation.layout import (
    Arrangement,
    Axes,
    align_axis,
    atoms_of,
    first_atom,
    fit,
    sum_weights,
)
from fanin.propagation.numbers_behind_norms import taken_back_by_weights
from fanin.propagation.profile import MOST_PLACES, even
from fanin.propagation.quadrature import Array, expectation, pair_moments
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.singular_values import largest_singular_value
from fanin.propagation.state import State, gaussian, independent, with_powers


def contracted_pairs(
    one: tuple[Axes, Array], two: tuple[Axes, Array], labels_one: str, labels_two: str, out: str
) -> tuple[Axes, Array, float]:
    """Pair moments of an einsum over two independent tensors.

    Args:
        one: axes and pair moments of the first.
        two: those of the second.
        labels_one: a letter for each axis of the first; shared letters go together.
        labels_two: likewise.
        out: letters of the output; what is missing is summed.

    Returns:
        The output's axes, its pair moments, and the number of terms in each sum.
    """
    first = Arrangement(atoms_of(one[0]), [one[1]])
    second = Arrangement(atoms_of(two[0]), [two[1]])
    axes_one, axes_two = list(one[0]), list(two[0])
    for letter in labels_one:
        if letter not in labels_two:
            continue
        i, j = labels_one.index(letter), labels_two.index(letter)
        a, b = axes_one[i], axes_two[j]
        if not a or not b:
            continue
        p, r = first_atom(tuple(axes_one), i), first_atom(tuple(axes_two), j)
        count = align_axis(first, p, len(a), second, r, len(b))
        axes_one[i], axes_two[j] = (
            tuple(first.atoms[p : p + count]),
            tuple(second.atoms[r : r + count]),
        )
    ids: dict[tuple[str, int], int] = {}

    def subscripts(labels: str, axes: Sequence[tuple[int, ...]]) -> list[int]:
        return [
            ids.setdefault((letter, k), len(ids))
            for letter, axis in zip(labels, axes, strict=True)
            for k in range(len(axis))
        ]

    sub_one, sub_two = subscripts(labels_one, axes_one), subscripts(labels_two, axes_two)
    axis_of = dict(zip(labels_two, axes_two, strict=True)) | {
        letter: axis
        for letter, axis in zip(labels_one, axes_one, strict=True)
        if axis or letter not in labels_two
    }
    operands: list[object] = [first.arrays[0], sub_one, second.arrays[0], sub_two]
    terms = 1.0
    for letter in dict.fromkeys(labels_one + labels_two):
        if letter not in out:
            for k, atom in enumerate(axis_of[letter]):
                operands += [sum_weights(atom), [ids[letter, k]]]
                terms *= atom
    axes_out = tuple(axis_of[letter] for letter in out)
    sub_out = [ids[letter, k] for letter in out for k in range(len(axis_of[letter]))]
    pairs = np.einsum(*operands, sub_out, optimize=len(operands) > 6)  # type: ignore[call-overload]
    return axes_out, np.asarray(pairs), terms


def contract(one: State, two: State, labels_one: str, labels_two: str, out: str) -> State:
    """The state of an einsum over two independent tensors; Gaussian, a sum of many terms."""
    axes, pairs, terms = contracted_pairs(
        (one.axes, one.pairs), (two.axes, two.pairs), labels_one, labels_two, out
    )
    made = gaussian(axes, terms * one.mean * two.mean, pairs).with_flags(one, two)
    made = with_powers(made, _powers(one, two, (labels_one, labels_two, out), terms, made))
    for factor, labels in ((one, labels_one), (two, labels_two)):
        pieces = factor.pieces
        if pieces is not None and labels[pieces.axis] in out:
            return replace(made, pieces=replace(pieces, axis=out.index(labels[pieces.axis])))
    return made


_CHANCE = 0.01


def _powers(
    one: State, two: State, letters: tuple[str, str, str], terms: float, made: State
) -> Array | None:
    """Powers of the product place by place, over its second moment as it would be without.

    Terms that agree in both factors meet the powers of both; what pairs of different terms add is
    spread evenly, or, behind shares that sum to 1, as what their squares leave of 1.
    """
    if one.profile is None and two.profile is None:
        return None
    if made.second_moment <= 0:
        return None
    own = terms * one.second_moment * two.second_moment / made.second_moment
    if not 0 < own < np.inf:
        return None
    lengths = dict(zip(letters[0], one.shape, strict=True)) | dict(
        zip(letters[1], two.shape, strict=True)
    )
    operands: list[object] = []
    uneven: set[str] = set()
    for state, labels in ((one, letters[0]), (two, letters[1])):
        # Axes of length 1 are left out: an einsum over the rest, summed axes at full length.
        profile = even(state.profile, len(state.axes))
        kept = [i for i, n in enumerate(profile.shape) if n != 1]
        operands += [profile.reshape([profile.shape[i] for i in kept]),
                     [ord(labels[i]) - 97 for i in kept]]  # fmt: skip
        uneven |= {labels[i] for i in kept}
    # Windows or samples along which both differ count once.
    if prod(lengths[c] for c in uneven if c in letters[2]) > MOST_PLACES:
        return None
    here = {k for labels in (operands[1], operands[3]) for k in labels}  # type: ignore[attr-defined]
    rest = [ord(c) - 97 for c in letters[2] if ord(c) - 97 in here]
    found = np.einsum(*operands, rest)  # type: ignore[call-overload]
    found = found / np.prod([lengths[chr(k + 97)] for k in here if k not in rest], initial=1.0)
    shape = [lengths[c] if ord(c) - 97 in rest else 1 for c in letters[2]]
    found = np.asarray(found).reshape(shape)
    left: Array | float = 1.0
    shares = one.profile is not None and abs(one.mean * terms - 1) < 1e-6 and one.mean > 0
    if shares:
        squares = found / max(float(found.mean()), 1e-12) * terms**2 / terms * one.second_moment
        left = np.clip(1 - squares, 0.0, None)
        left = left / left.mean() if float(left.mean()) > 1e-9 else 1.0
    # The pairs of weights that stand there, rather than of a plan, are never quite 0.
    total = 1.0 if own > 1 - _CHANCE else own
    other = 1 - total
    return np.asarray(total * found + other * left)


def mirrored_input(state: State) -> State:
    """What a mirrored matrix sees: [φ(h), φ(−h)] enters as φ(h) − φ(−h), one sign per half.

    Its entries come in opposite pairs, so that only the odd part of φ passes, and passes twice.
    """
    odd = (state.values - state.values[::-1]) / np.sqrt(2)
    if expectation(odd**2) == 0.0:
        return state
    pairs = pair_moments(odd, state.base.correlations)
    return replace(state, mean=0.0, pairs=pairs, values=odd)


_PLANS = {
    "mm": ("ik", "kj", "ij"),
    "bmm": ("bik", "bkj", "bij"),
    "mv": ("ik", "k", "i"),
    "dot": ("k", "k", ""),
    "vdot": ("k", "k", ""),
    "ger": ("i", "j", "ij"),
    "outer": ("i", "j", "ij"),
}
_WITH_SUM = {"addmm": "mm", "baddbmm": "bmm", "addmv": "mv"}


def _operands(call: Call) -> tuple[int, int, tuple[str, str, str]]:
    """Positions of the two factors and the letters of their axes."""
    if call.name in _WITH_SUM:
        return 1, 2, _PLANS[_WITH_SUM[call.name]]
    return 0, 1, _PLANS[call.name]


def product(call: Call, i: int, j: int, letters: tuple[str, str, str]) -> State:
    """The product of two arguments, mirrored matrices and Gram matrices included."""
    one, two = call.state(i), call.state(j)
    if two.mirrored and one.mirrored:
        one = mirrored_input(one)
    made = contract(one, two, *letters)
    if call.name == "bmm":
        made = bounded_cosines(call, averaged_values(call, made))
    data, weight = call.tensor(i), call.tensor(j)
    if call.name in ("mm", "addmm") and data is not None and weight is not None:
        made = raised(made, tied_power(call, data, weight))
    if two.mirrored:
        made = replace(made, mirrored=True)
    return made


@forward("mm", "bmm", "mv", "dot", "vdot", "ger", "outer")
def matmul(call: Call) -> State:
    """A plain product."""
    i, j, letters = _operands(call)
    norm = _spectral_norm(call) if call.name in ("dot", "vdot") else None
    return norm if norm is not None else product(call, i, j, letters)


def _spectral_norm(call: Call) -> State | None:
    """uᵀ W v of spectral normalisation: u and v have been turned towards W's largest direction."""
    for position in (0, 1):
        tensor = call.tensor(position)
        maker = call.graph.producer.get(tensor) if tensor is not None else None
        if (
            maker is None
            or maker.name != "mv"
            or not call.graph.tensors[maker.outputs[0]].of_parameters
        ):
            continue
        ref = maker.args[0]
        weight = call.states[ref.tensor]
        mean, std = largest_singular_value(*weight.shape)
        root = weight.second_moment**0.5
        return independent((), root * mean, root * std)
    return None


@forward("addmm", "baddbmm", "addmv")
def matmul_add(call: Call) -> State:
    """beta·bias + alpha·product."""
    i, j, letters = _operands(call)
    made = scaled(product(call, i, j, letters), float(call.operation.kwargs.get("alpha", 1)))
    beta = float(call.operation.kwargs.get("beta", 1))
    if beta == 0.0:
        return made
    total = added(made, scaled(call.state(0), beta))
    return replace(total, mirrored=made.mirrored and call.state(0).second_moment == 0.0)


@backward("mm", "bmm", "mv", "dot", "vdot", "ger", "outer", "addmm", "baddbmm", "addmv")
def matmul_backward(call: Call) -> list[Pass]:
    """g·Bᵀ and Aᵀ·g; the bias receives the sum of g."""
    from fanin.propagation.factors import mover

    i, j, (a, b, out) = _operands(call)
    made = call.made()
    passes: list[Pass] = []
    alpha = float(call.operation.kwargs.get("alpha", 1))
    along = queries_of_product(call)
    plain = call.name in ("mm", "addmm")
    taken_back = 1.0
    if plain:
        taken_back = taken_back_by_weights(call) * left_of_rows(call, call.state(j).shape[0])
    for mine, other, letters, others in ((i, j, a, b), (j, i, b, a)):
        tensor = call.tensor(mine)
        if tensor is None:
            continue

        def move(
            pairs: Array,
            mine: int = mine,
            other: int = other,
            letters: str = letters,
            others: str = others,
        ) -> Array:
            target, factor = call.state(mine), call.state(other)
            axes, found, _ = contracted_pairs(
                (made.axes, pairs), (factor.axes, factor.pairs), out, others, letters
            )
            own = along * taken_back if mine == i else 1.0
            return fit(found * (alpha**2 * own), axes, target.axes)

        carry = contracted(call.state(other).profile, out, others, letters)
        factor = call.state(other)
        fresh = mine == i and plain and not factor.mirrored
        passes.append(
            Pass(
                tensor,
                move,
                by_value=partial(echo, call, i, j) if fresh else None,
                through_matrix=factor.pieces is not None,
                carry=carry,
                mirrored=mine == i and factor.mirrored,
            )
        )
    if call.name in _WITH_SUM:
        bias = call.tensor(0)
        if bias is not None:
            beta = float(call.operation.kwargs.get("beta", 1))
            to_bias = mover(made.axes, call.state(0).axes)
            passes.append(Pass(bias, lambda p: beta**2 * to_bias(p)))
    return passes
