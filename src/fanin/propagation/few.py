"""Dividing by a power that few numbers make: E[1/s²] is above 1/E[s²]."""

from collections.abc import Sequence

from fanin.graph.graph import Operation, Ref
from fanin.propagation.algebra import centred_pairs, mean_pairs
from fanin.propagation.call import Call, functional_name
from fanin.propagation.layout import Axes
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State
from fanin.propagation.taps import reads_of_taps

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


def inverse_power(call: Call, view: State, dims: Sequence[int], centre: bool) -> float:
    """E[1/s²]·E[s²] of the power s² that a recorded norm divides by.

    s² of ν independent numbers is χ²-like, with E[1/s²] = ν/(ν − 2).

    Args:
        call: the norm.
        view: its input under the axes that the statistics run over.
        dims: those axes.
        centre: whether the mean is taken off.
    """
    source, few = call.tensor(0), spread_of_power(view.pairs, view.axes, dims, centre)
    if call.name in _OVER_ROWS and source is not None:
        few = _varies(call, source, few, 12)
    found = 1 / (1 - min(few, 0.5))
    maker = None if source is None else call.graph.producer.get(source)
    if maker is not None and "convolution" in maker.name:
        found *= by_few_weights(Call(call.graph, maker, call.states, call.parts))
    return found


def _varies(call: Call, tensor: int, few: float, left: int) -> float:
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
        return _varies(call, first.tensor, few, left - 1)
    second = maker.args[1] if len(maker.args) > 1 else None
    if name in ("add", "sub") and isinstance(second, Ref):
        one, two = call.states[first.tensor], call.states[second.tensor]
        p, q = one.second_moment, two.second_moment
        if one.shape == two.shape and p + q > 0:
            own = _varies(call, first.tensor, few, left - 1) * p * p
            other = _varies(call, second.tensor, few, left - 1) * q * q
            return float(min((own + other + 2 * few * p * q) / (p + q) ** 2, few))
    return few


def by_few_weights(call: Call) -> float:
    """E[1/s²]·E[s²] of a channel's power s² in a batch norm that alone reads this convolution.

    A channel that sums over n weights has a power like χ² of n. The norm's gradient grows where
    the weights happen to be small, and the same small weights take it back on the way to the
    convolution's input.
    """
    readers = call.graph.consumers.get(call.operation.outputs[0], ())
    if len(readers) != 1 or "batch_norm" not in readers[0].name or bool(call.raw(6)):
        return 1.0
    if "no_training" in readers[0].name or not _trains(readers[0]):
        return 1.0
    weight = call.state(1)
    if weight.known is not None or weight.mean**2 > 0.01 * weight.second_moment:
        return 1.0
    reads = reads_of_taps(call)
    inputs = weight.shape[1]
    count = inputs * float(reads.sum() ** 2 / (reads**2).sum()) if reads.any() else 1.0
    return 1 / (1 - min(2 / max(count, 1.0), 0.5))


def _trains(operation: Operation) -> bool:
    """Whether a batch norm takes its statistics from the batch."""
    return operation.name == "_batch_norm_with_update" or (
        len(operation.args) > 5 and bool(operation.args[5])
    )
