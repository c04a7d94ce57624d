"""Rows of logits that are drawn to find what their softmax does: Gaussian ones, and cosines.

Logits of queries with keys are Gaussian in wide heads. Where both are divided by their lengths they
are cosines, which never exceed 1: of n directions they have the density (1 − c²)^((n − 3)/2), even
for n = 3, and a row of large ones picks several keys where a Gaussian row picks one. Biases of
positions add to both.
"""

from dataclasses import dataclass

import numpy as np

from fanin.graph.graph import Ref
from fanin.propagation.call import Call, functional_name
from fanin.propagation.cosines import directions_of_rows
from fanin.propagation.layout import atom_range
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State

_MANY = 64
"""Cosines of so many numbers are as good as Gaussian."""
_ELEMENTS = 1 << 16
_FURTHEST = 16
_VIEWS = {"view", "_unsafe_view", "reshape", "clone", "transpose", "permute", "contiguous",
          "expand", "unsqueeze", "squeeze", "alias", "_to_copy"}  # fmt: skip
_PRODUCTS = {"bmm", "baddbmm"}


@dataclass(frozen=True)
class LogitKind:
    """What a row of logits is made of.

    Args:
        directions: numbers of the unit vectors whose cosines the products are; 0 for Gaussians.
        part: share of the products in the variance of a row's logits; the rest are biases.
        sphere: dimensions of the sphere that the keys were read from, whatever the queries' length;
            0 for keys of all lengths.
    """

    directions: int = 0
    part: float = 1.0
    sphere: int = 0


GAUSSIAN = LogitKind()


def drawn_rows(keys: int, std: float, kind: LogitKind) -> tuple[Array, Array]:
    """Products of unit variance and the shares that their rows have, ``(rows, keys)``.

    Args:
        keys: of a row.
        std: of the logits within a row.
        kind: what they are made of.
    """
    rows = max(_ELEMENTS // keys, 16)
    generator = np.random.default_rng(keys)
    z = generator.standard_normal((rows, keys))
    # The same rows for every std, of exactly unit variance within: chance is no function of it.
    z = z / np.sqrt(((z - z.mean(axis=1, keepdims=True)) ** 2).mean() * keys / (keys - 1))
    products = z
    n = kind.directions or kind.sphere
    if n:
        # The first of n numbers over their length, for the others' χ² drawn beside it.
        others = generator.chisquare(n - 1, z.shape) if n > 1 else np.zeros_like(z)
        products = z / np.sqrt((z**2 + others) / n)
    logits = products
    if kind.part < 1.0:
        biases = generator.standard_normal(z.shape)
        logits = kind.part**0.5 * products + (1 - kind.part) ** 0.5 * biases
    shares = np.exp(std * (logits - logits.max(axis=1, keepdims=True)))
    return products, shares / shares.sum(axis=1, keepdims=True)


def left_of_values(products: Array, shares: Array, directions: int) -> Array:
    """How much the values of a row's keys differ, over that of strangers, for each of its keys.

    Values are read from the tokens on the sphere that the keys were read from. What a gradient has
    along the query, cosine² = 1/n of it, meets z − Σ a z; the rest what a token of √n in all has
    left beside its z, (n − z²)/(n − 1).

    Args:
        products: z, of unit variance.
        shares: a.
        directions: n.
    """
    along = (products - (shares * products).sum(axis=1, keepdims=True)) ** 2 / directions
    aside = (1 - 1 / directions) * (directions - products**2).clip(min=0) / (directions - 1)
    return np.asarray(along + aside)


def kind_of_logits(call: Call, dim: int) -> LogitKind:
    """Of the logits that a softmax reads."""
    graph, states, source = call.graph, call.states, call.raw(0)
    if not isinstance(source, Ref):
        return GAUSSIAN
    product, tensor = None, source.tensor
    of_products = tensor
    for _ in range(_FURTHEST):
        maker = graph.producer.get(tensor)
        if maker is None or maker.name in _PRODUCTS:
            product = maker
            break
        name = functional_name(maker.name)
        refs = [a.tensor for a in maker.args if isinstance(a, Ref)]
        if name in ("add", "sub") and len(refs) == 2:
            refs = [t for t in refs if graph.tensors[t].shape == graph.tensors[tensor].shape]
            of_products = refs[0] if refs else tensor
        elif name not in _VIEWS and name not in ("mul", "div", "masked_fill"):
            return GAUSSIAN
        if not refs:
            return GAUSSIAN
        tensor = refs[0]
    if product is None:
        return GAUSSIAN
    part, whole = 1.0, within(states[source.tensor], dim)
    # Behind a view that brings the heads apart the axes are others.
    if whole > 0 and graph.tensors[of_products].shape == graph.tensors[source.tensor].shape:
        part = round(min(within(states[of_products], dim) / whole, 1.0), 2) or 0.01
    first = 1 if product.name == "baddbmm" else 0
    factors = [a.tensor for a in product.args[first : first + 2] if isinstance(a, Ref)]
    count = graph.tensors[factors[0]].shape[-1] if len(factors) == 2 else 0
    if not 1 < count < _MANY:
        return LogitKind(0, part)
    found = {directions_of_rows(call, t, count) for t in factors}
    return LogitKind((found.pop() or 0) if len(found) == 1 else 0, part)


def within(state: State, dim: int) -> float:
    """Variance along one axis: what two places of it do not share."""
    along = set(atom_range(state.axes, dim))
    apart = state.pairs[tuple(int(position in along) for position in range(state.pairs.ndim))]
    return max(state.second_moment - float(apart), 0.0) if along else 0.0
