"""Edges of a graph: by which of their ends messages are read, and to which they go.

What one node sends along several edges is one and the same, and so is the gradient that one node
sends back; but among the edges that meet at a node at their other ends there are no such twins, or
others than among all pairs of edges.
"""

from collections.abc import Mapping

import torch

from fanin.graph.graph import Graph, Ref
from fanin.propagation.call import functional_name
from fanin.propagation.state import State

_GATHERS = {"index_select": 2, "index": 1, "_unsafe_index": 1}
_SCATTERS = {"scatter_add": 2, "index_add": 2, "scatter_reduce": 2}
_FURTHEST = 40


def degrees_at(ends: torch.Tensor) -> torch.Tensor:
    """For each edge, how many edges its end has."""
    return torch.bincount(ends)[ends].double()


def gathered_by(
    graph: Graph, states: Mapping[int, State], messages: int, count: int
) -> torch.Tensor | None:
    """By which places along the first axis messages were read.

    Returns:
        None where that is not known, or where messages were read by both ends of their edges.
    """
    front, seen = [messages], set[int]()
    found: torch.Tensor | None = None
    features = graph.tensors[messages].shape[-1]
    while front:
        tensor = front.pop(0)
        maker = graph.producer.get(tensor)
        if tensor in seen or maker is None or states[tensor].known is not None:
            continue
        seen.add(tensor)
        name = functional_name(maker.name)
        if name in _GATHERS:
            if name == "index_select" and maker.args[1] != 0:
                return None
            line = _line(states, _index(maker.args[_GATHERS[name]]), count)
            if line is None or (found is not None and not torch.equal(found, line)):
                return None
            found = line
            continue
        if len(seen) > _FURTHEST:
            return None
        shapes = {t: graph.tensors[t].shape for t in maker.inputs}
        # One number for all features, such as attention's share, says nothing of their signs.
        front += [t for t, shape in shapes.items()
                  if shape[:1] == (count,) and (shape[-1] != 1 or features == 1)]  # fmt: skip
    return found


def scattered_by(
    graph: Graph, states: Mapping[int, State], read: int, count: int
) -> torch.Tensor | None:
    """To which places along the first axis messages go.

    Returns:
        None where that is not known.
    """
    front, seen = [read], set[int]()
    while front and len(seen) < _FURTHEST:
        tensor = front.pop(0)
        if tensor in seen:
            continue
        seen.add(tensor)
        for reader in graph.consumers.get(tensor, ()):
            name = functional_name(reader.name)
            if name in _SCATTERS:
                line = _line(states, _index(reader.args[2]), count)
                return None if reader.args[1] != 0 else line
            front += [t for t in reader.outputs if graph.tensors[t].shape[:1] == (count,)]
    return None


def _index(argument: object) -> int | None:
    """The tensor that indexes the first axis."""
    if isinstance(argument, tuple | list):
        return argument[0].tensor if argument and isinstance(argument[0], Ref) else None
    return argument.tensor if isinstance(argument, Ref) else None


def _line(states: Mapping[int, State], index: int | None, count: int) -> torch.Tensor | None:
    known = None if index is None else states[index].known
    if known is None or known.dim() < 1 or known.shape[0] != count or known.numel() == 0:
        return None
    lines = known.reshape(count, -1)
    return None if bool((lines != lines[:, :1]).any()) else lines[:, 0].long()
