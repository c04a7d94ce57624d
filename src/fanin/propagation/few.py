"""Dividing by a power that few numbers make: E[1/s²] is above 1/E[s²]."""

from collections.abc import Sequence

from fanin.graph.graph import Ref
from fanin.propagation.algebra import centred_pairs, mean_pairs
from fanin.propagation.call import Call, functional_name
from fanin.propagation.layout import Axes
from fanin.propagation.quadrature import Array

_OVER_ROWS = ("native_layer_norm", "_fused_rms_norm", "rms_norm")
_ROWS_KEPT = {"view", "_unsafe_view", "reshape", "transpose", "permute", "clone", "_to_copy",
              "squeeze", "unsqueeze", "alias", "contiguous", "expand", "select"}  # fmt: skip


def spread_of_power(pairs: Array, axes: Axes, dims: Sequence[int], centre: bool) -> float:
    """Relative variance of the power s² that a norm divides by: 2/ν of ν independent numbers.

    1/ν is the mean squared correlation over all pairs of the numbers averaged, each with itself
    included.
    """
    centred = centred_pairs(pairs, axes, dims) if centre else pairs
    if centred.flat[0] <= 0:
        return 0.0
    square = (centred / centred.flat[0]) ** 2
    return 2 * float(mean_pairs(square, axes, dims).flat[0])


def varies(call: Call, tensor: int, few: float, left: int) -> float:
    """Relative variance of a tensor's power from row to row, ``few`` where nothing holds it.

    Behind a norm every row has the same; a sum of two has what both have and twice their product.
    """
    maker = call.graph.producer.get(tensor)
    if maker is None or left == 0 or not maker.inputs:
        return few
    name = functional_name(maker.name)
    if name in _OVER_ROWS:
        return 0.0
    first = maker.args[0]
    if not isinstance(first, Ref):
        return few
    shape = call.states[tensor].shape
    if name in _ROWS_KEPT and call.states[first.tensor].shape[-1:] == shape[-1:]:
        return varies(call, first.tensor, few, left - 1)
    second = maker.args[1] if len(maker.args) > 1 else None
    if name in ("add", "sub") and isinstance(second, Ref):
        one, two = call.states[first.tensor], call.states[second.tensor]
        p, q = one.second_moment, two.second_moment
        if one.shape == two.shape and p + q > 0:
            own = varies(call, first.tensor, few, left - 1) * p * p
            other = varies(call, second.tensor, few, left - 1) * q * q
            return float(min((own + other + 2 * few * p * q) / (p + q) ** 2, few))
    return few
