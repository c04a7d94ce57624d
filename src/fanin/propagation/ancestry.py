"""What every tensor of a graph was made from, found once for all pairs that are asked for."""

from functools import lru_cache

from fanin.graph.graph import Graph


def ancestors(graph: Graph) -> dict[int, int]:
    """For every tensor, a bit mask of the operations and sources that it was made from."""
    return _masks(_Identity(graph))


class _Identity:
    """A graph as a key: its identity, for its operations hold lists and cannot be hashed."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __hash__(self) -> int:
        return id(self.graph)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.graph is self.graph


@lru_cache(maxsize=8)
def _masks(key: _Identity) -> dict[int, int]:
    masks: dict[int, int] = {}
    bits: dict[int, int] = {}
    for operation in key.graph.operations:
        mask = 0
        for tensor in operation.inputs:
            if tensor not in masks:
                masks[tensor] = 1 << bits.setdefault(tensor, len(bits))
            mask |= masks[tensor]
        for out in operation.outputs:
            masks[out] = mask | (1 << bits.setdefault(out, len(bits)))
    return masks
