"""Matrix products: linear layers, attention's two products, einsum's parts.

E[y y′] = Σ E[a a′]·E[b b′] over the pairs of summed terms, which a layer with a fresh zero-mean
matrix turns into q′ = n_in σ² q and attention into Σ a² q_v + Σ a a′ ρ q_v.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from fanin.propagation.algebra import added, scaled
from fanin.propagation.alignment import averaged_values, queries_of_product, raised, tied_power
from fanin.propagation.call import Call
from fanin.propagation.carrying import contracted
from fanin.propagation.contraction import contract, contracted_pairs
from fanin.propagation.cosines import bounded_cosines
from fanin.propagation.echo import echo, left_of_rows
from fanin.propagation.layout import fit
from fanin.propagation.numbers_behind_norms import taken_back_by_weights
from fanin.propagation.quadrature import Array, expectation, pair_moments
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.singular_values import largest_singular_value
from fanin.propagation.state import State, independent


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
