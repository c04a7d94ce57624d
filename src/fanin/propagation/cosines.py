"""Products of unit vectors: cosines, which are bounded.

The cosine u of a fixed and a random direction of n dimensions has the density
(1 − u²)^((n − 3)/2): what is steep near ±1, such as a power of 1 − arccos(u)/π, is far from what it
is of a Gaussian number with the same variance 1/n.
"""

from fanin.graph.graph import Operation, Ref
from fanin.propagation.attention_parts import origin
from fanin.propagation.call import Call
from fanin.propagation.normalised_values import normalised_values
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State, distributed
from fanin.propagation.written_norms import written_norm

_CENTRED = 1e-2
"""Share of its mean in a product's power from which on its vectors have a side in common."""


def bounded_cosines(call: Call, made: State) -> State:
    """``bmm`` of unit vectors with unit vectors; any other product as it is."""
    values = _cosines(call)
    if values is None or made.profile is not None or made.mean**2 > _CENTRED * made.second_moment:
        return made
    return distributed(made, made.second_moment**0.5 * values)


def _cosines(call: Call) -> Array | None:
    """Quantiles of mean square 1; None where one factor's vectors differ in length."""
    directions = [_directions(call, position) for position in (0, 1)]
    if None in directions or directions[0] != directions[1] or not directions[0]:
        return None
    return normalised_values(2 / directions[0], 0.0)


def _directions(call: Call, position: int) -> int | None:
    """Dimensions of the unit vectors that are multiplied; None where they have other lengths."""
    source = origin(call.graph, call.tensor(position))
    if source is None:
        return None
    maker = call.graph.producer.get(source)
    if maker is None or not _may_normalise(maker):
        return None
    norm = written_norm(Call(call.graph, maker, call.states, call.parts))
    count = call.state(position).shape[-1 if position == 0 else -2]
    if norm is None or norm.dims != (len(call.graph.tensors[source].shape) - 1,):
        return None
    if call.graph.tensors[norm.source].shape[-1] != count:
        return None
    return count - int(norm.centre)


def _may_normalise(maker: Operation) -> bool:
    return maker.name in ("div", "mul") and all(isinstance(a, Ref) for a in maker.args[:2])
