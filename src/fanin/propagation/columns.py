"""Which axes of a tensor number the columns of the matrix that made it: heads and their features.

Weights of different columns are strangers; samples, windows and tokens meet the same ones.
"""

import torch

from fanin.graph.graph import Graph, Operation, Ref
from fanin.propagation.call import functional_name, resolve
from fanin.propagation.layout import Axes, atoms_of

_VIEWS = {"view", "_unsafe_view", "reshape", "transpose", "permute", "expand", "unsqueeze",
          "squeeze", "select", "slice", "split", "split_with_sizes", "unbind", "chunk",
          "unsafe_split", "unsafe_split_with_sizes", "unflatten", "flatten"}  # fmt: skip
_SAME = {"clone", "contiguous", "alias", "detach", "_to_copy", "mul", "div", "native_dropout"}
_FURTHEST = 24
MOST_NUMBERED = 1 << 22
"""Elements that are numbered one by one."""


def numbering_columns(graph: Graph, tensor: int, axes: Axes) -> tuple[bool, ...] | None:
    """For each atom of a tensor's axes, whether its places hold different columns of a matrix.

    The numbers of the columns take the way that the tensor took, through views.

    Args:
        graph: what ran.
        tensor: made by a linear layer, through views.
        axes: of the tensor, with their atoms.

    Returns:
        None where it was not made by one, or is too large.
    """
    found = columns_behind(graph, tensor, axes)
    return None if found is None else found[1]


def columns_behind(
    graph: Graph, tensor: int, axes: Axes
) -> tuple[Operation, tuple[bool, ...]] | None:
    """``numbering_columns``, with the product that made the tensor."""
    steps: list[tuple[Operation, int]] = []
    current = tensor
    while True:
        maker = graph.producer.get(current)
        if maker is None or len(steps) > _FURTHEST:
            return None
        name = functional_name(maker.name)
        if name in ("mm", "addmm"):
            product = maker
            break
        source = maker.args[0] if maker.args else None
        if name not in _VIEWS | _SAME or not isinstance(source, Ref):
            return None
        if name in ("mul", "div") and any(isinstance(a, Ref) for a in maker.args[1:]):
            return None
        steps.append((maker, maker.outputs.index(current)))
        current = source.tensor
    rows, columns = graph.tensors[current].shape
    if rows * columns > MOST_NUMBERED:
        return None
    numbers: torch.Tensor | None = torch.arange(columns).expand(rows, columns)
    for maker, output in reversed(steps):
        assert numbers is not None
        if functional_name(maker.name) in _VIEWS:
            numbers = _seen(maker, numbers, output)
        if numbers is None:
            return None
    assert numbers is not None
    atoms = atoms_of(axes)
    if numbers.numel() != torch.Size(atoms).numel():
        return None
    split = numbers.reshape(atoms)
    return product, tuple(bool((split != split.narrow(k, 0, 1)).any()) for k in range(len(atoms)))


def _seen(maker: Operation, numbers: torch.Tensor, output: int) -> torch.Tensor | None:
    if functional_name(maker.name) in ("view", "_unsafe_view", "reshape"):
        return numbers.reshape(maker.args[1])
    function = resolve(maker.name, maker.overload)
    if function is None:
        return None
    found = function(numbers, *maker.args[1:], **maker.kwargs)
    result = found if isinstance(found, torch.Tensor) else found[output]
    return result if isinstance(result, torch.Tensor) else None
