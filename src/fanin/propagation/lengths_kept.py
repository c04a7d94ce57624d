"""Matrices with orthonormal columns: what they make is as long as what they read."""

from fanin.graph.graph import Operation, Ref
from fanin.propagation.attention_parts import origin
from fanin.propagation.call import Call


def keeps_lengths(call: Call, product: Operation) -> bool:
    """Whether a matrix with orthonormal columns, and no bias to speak of, made these rows."""
    weights, last = call.parts.weights, product.args[-1]
    if product.name == "addmm":
        bias = product.args[0]
        if not isinstance(bias, Ref) or call.states[bias.tensor].second_moment > 0:
            return False
    weight = origin(call.graph, last.tensor) if isinstance(last, Ref) else None
    maker = None if weight is None else call.graph.producer.get(weight)
    if maker is not None and maker.name == "t" and isinstance(maker.args[0], Ref):
        weight = maker.args[0].tensor
    return weights is not None and weight is not None and weights.keeps_lengths(weight)
