"""Products of unit vectors: cosines, which are bounded.

The cosine u of a fixed and a random direction of n dimensions has the density
(1 − u²)^((n − 3)/2): what is steep near ±1, such as a power of 1 − arccos(u)/π, is far from what it
is of a Gaussian number with the same variance 1/n.
"""

from fanin.graph.graph import Graph, Operation
from fanin.propagation.attention_parts import origin
from fanin.propagation.call import Call, functional_name
from fanin.propagation.normalised_values import normalised_values
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State, distributed
from fanin.propagation.written_norms import written_norm

_CENTRED = 1e-2
"""Share of its mean in a product's power from which on its vectors have a side in common."""
_FURTHEST = 16


def bounded_cosines(call: Call, made: State) -> State:
    """``bmm`` of unit vectors with unit vectors; any other product as it is."""
    values = _cosines(call)
    if values is None or made.profile is not None or made.mean**2 > _CENTRED * made.second_moment:
        return made
    return distributed(made, made.second_moment**0.5 * values)


def _cosines(call: Call) -> Array | None:
    """Quantiles of mean square 1; None where one factor's vectors differ in length."""
    tensors = call.tensor(0), call.tensor(1)
    count = call.state(0).shape[-1]
    directions = {None if t is None else directions_of_rows(call, t, count) for t in tensors}
    found = directions.pop()
    return normalised_values(2 / found, 0.0) if found and not directions else None


def directions_of_rows(call: Call, tensor: int, count: int) -> int | None:
    """Dimensions of the vectors that a tensor holds, all of one length; None for other tensors.

    Args:
        call: whose graph and states are asked.
        tensor: vectors divided by their own lengths, through views and times a number.
        count: numbers of a vector.
    """
    graph = call.graph
    maker = _under_views(graph, tensor)
    if maker is None:
        return None
    norm = written_norm(Call(graph, maker, call.states, call.parts))
    if norm is None or norm.dims != (len(call.graph.tensors[norm.source].shape) - 1,):
        return None
    if graph.tensors[norm.source].shape[-1] != count:
        return None
    return count - int(norm.centre)


def _under_views(graph: Graph, tensor: int) -> Operation | None:
    """What made a tensor, before views of it and factors that are numbers."""
    for _ in range(_FURTHEST):
        source = origin(graph, tensor)
        maker = None if source is None else graph.producer.get(source)
        if maker is None or functional_name(maker.name) not in ("mul", "div"):
            return None
        if len(maker.inputs) > 1:
            return maker
        tensor = maker.inputs[0]
    return None
