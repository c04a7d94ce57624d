"""Keys that were read from tokens of one length, which lie on a sphere of few dimensions.

Tokens behind a norm have one length. Where their features vary in n directions only, as behind a
projection from few channels, a row of logits q·k is √n cos φ times the length of q along them: of
n = 7 directions none is above 2.6 standard deviations, and no key takes as much of its row as one
of Gaussian logits would.
"""

from collections.abc import Mapping
from dataclasses import replace

from fanin.graph.graph import Graph
from fanin.propagation.attention_parts import is_weight, origin, read_from
from fanin.propagation.call import Call, CallParts
from fanin.propagation.directions import inverse_directions
from fanin.propagation.logit_rows import LogitKind
from fanin.propagation.norm_settings import ROW_NORMS
from fanin.propagation.state import State
from fanin.propagation.written_norms import written_norm

_MANY = 64
"""So many directions are as good as infinitely many."""


def _before_its_scale(graph: Graph, tensor: int | None) -> int | None:
    """What a norm's learned scale multiplies, where it is an operation of its own."""
    maker = None if tensor is None else graph.producer.get(tensor)
    if maker is None or maker.name != "mul" or len(maker.inputs) != 2:
        return tensor
    data = [t for t in maker.inputs if not is_weight(graph, t)]
    return origin(graph, data[0]) if len(data) == 1 else tensor


def of_normed_tokens(
    graph: Graph, states: Mapping[int, State], parts: CallParts, kind: LogitKind, key: int | None
) -> LogitKind:
    """The kind of logits, given the keys that they are products with.

    Args:
        graph: what ran.
        states: of every tensor before.
        parts: what forward rules left.
        kind: what is known of the logits.
        key: the keys; None where they are not known.
    """
    if kind.directions or key is None:
        return kind
    source = _before_its_scale(graph, origin(graph, read_from(graph, key)))
    maker = None if source is None else graph.producer.get(source)
    if source is None or maker is None or source not in states:
        return kind
    if maker.name not in ROW_NORMS:
        norm = written_norm(Call(graph, maker, states, parts))
        if norm is None or norm.dims != (len(graph.tensors[source].shape) - 1,):
            return kind
    count = 1 / max(inverse_directions(graph, states, source), 1e-9)
    return replace(kind, sphere=round(count)) if 2 <= count < _MANY else kind
