"""Which part of which tensor a view shows: slices, steps, shifts and paddings traced back.

Two views of one tensor that show different places are correlated as any two places of it are;
two steps of a sequence that was stacked up are those steps, whatever linear layers lie between.
"""

from dataclasses import dataclass

from fanin.graph.graph import Graph, Operation, Ref

_SPLITS = {"split", "split_with_sizes", "unsafe_split", "chunk", "unsafe_chunk", "tensor_split",
           "unsafe_split_with_sizes"}  # fmt: skip
_SHIFTS = {"slice", "narrow", "select", "unbind", "constant_pad_nd", "roll"} | _SPLITS
_COPIES = {"clone", "detach", "alias", "contiguous", "_to_copy"}
_LONGEST = 8


@dataclass(frozen=True)
class Place:
    """A part of a tensor.

    Args:
        root: the tensor.
        offsets: where the part begins along each of the root's axes.
        alive: the root's axes that the part still has, in order.
    """

    root: int
    offsets: tuple[int, ...]
    alive: tuple[int, ...]


def place_of(graph: Graph, tensor: int) -> Place:
    """The widest tensor that this one is a part of, and where it begins in it."""
    steps: list[tuple[Operation, int]] = []
    while len(steps) < _LONGEST:
        maker = graph.producer.get(tensor)
        if maker is None or maker.name not in _SHIFTS | _COPIES or not maker.args:
            break
        source = maker.args[0]
        if not isinstance(source, Ref):
            break
        steps.append((maker, tensor))
        tensor = source.tensor
    rank = len(graph.tensors[tensor].shape)
    offsets, alive = [0] * rank, list(range(rank))
    for maker, out in reversed(steps):
        for axis, start in _starts(graph, maker, out).items():
            offsets[alive[axis]] += start
        if maker.name in ("select", "unbind"):
            alive.pop(_dim(graph, maker))
    return Place(tensor, tuple(offsets), tuple(alive))


def _argument(operation: Operation, position: int, name: str, default: int = 0) -> int:
    if position < len(operation.args):
        value = operation.args[position]
    else:
        value = operation.kwargs.get(name, default)
    return int(value) if isinstance(value, int) else default


def _source_shape(graph: Graph, operation: Operation) -> tuple[int, ...]:
    source = operation.args[0]
    assert isinstance(source, Ref)
    return graph.tensors[source.tensor].shape


def _dim(graph: Graph, operation: Operation) -> int:
    position = 2 if operation.name in _SPLITS else 1
    rank = max(len(_source_shape(graph, operation)), 1)
    return _argument(operation, position, "dim") % rank


def _starts(graph: Graph, operation: Operation, out: int) -> dict[int, int]:
    """First place along each axis that an operation cuts or shifts."""
    name = operation.name
    if name in _COPIES:
        return {}
    shape = _source_shape(graph, operation)
    if name == "constant_pad_nd":
        widths = [int(w) for w in operation.args[1]]
        return {len(shape) - 1 - k: -widths[2 * k] for k in range(len(widths) // 2)}
    if name == "roll":
        shifts, dims = operation.args[1], operation.args[2] if len(operation.args) > 2 else ()
        shifts, dims = ((v,) if isinstance(v, int) else tuple(v) for v in (shifts, dims))
        return {d % len(shape): -s for s, d in zip(shifts, dims, strict=False)}
    dim, n = _dim(graph, operation), 0
    if name == "unbind":
        return {dim: operation.outputs.index(out)}
    if name in _SPLITS:
        before = operation.outputs[: operation.outputs.index(out)]
        return {dim: sum(graph.tensors[t].shape[dim] for t in before)}
    n = shape[dim] if shape else 1
    start = _argument(operation, 2, "index" if name == "select" else "start")
    return {dim: start + n if start < 0 else min(start, n)}


@dataclass(frozen=True)
class Step:
    """What a place along an axis came from: one step of a sequence that was stacked up there.

    Args:
        parts: the step's tensors (several where features were put side by side) with their shares.
        weights: what it has been multiplied with since.
    """

    parts: tuple[tuple[int, float], ...]
    weights: tuple[int, ...]


def step_of(graph: Graph, tensor: int, axis: int, index: int) -> Step | None:
    """The step at a place of an axis.

    None where nothing was stacked up, or more than linear layers, biases and views lies between.
    """
    weights: list[int] = []
    length = graph.tensors[tensor].shape[axis]
    for _ in range(2 * _LONGEST):
        maker = graph.producer.get(tensor)
        if maker is None or not maker.args:
            return None
        shape, name = graph.tensors[tensor].shape, maker.name
        source: object = maker.args[0]
        if name in ("stack", "cat"):
            return _step(graph, maker, (axis, index, length), tuple(weights))
        if name in ("mm", "addmm"):
            first = 1 if name == "addmm" else 0
            source, weight = maker.args[first : first + 2]
            if axis != 0 or not isinstance(weight, Ref):
                return None
            weights.append(weight.tensor)
        elif name == "add":
            source = _wider(graph, maker, shape)
        elif name in ("t", "transpose"):
            one, two = (0, 1) if name == "t" else (int(d) % len(shape) for d in maker.args[1:3])
            axis = two if axis == one else one if axis == two else axis
        elif name in ("view", "_unsafe_view", "reshape"):
            if axis != 0:
                return None
        elif name not in _COPIES:
            return None
        if not isinstance(source, Ref):
            return None
        tensor = source.tensor
    return None


def _step(
    graph: Graph, operation: Operation, place: tuple[int, int, int], weights: tuple[int, ...]
) -> Step | None:
    axis, index, length = place
    parts = [ref.tensor for ref in operation.args[0] if isinstance(ref, Ref)]
    shape = graph.tensors[operation.outputs[0]].shape
    dim = _argument(operation, 1, "dim") % len(shape)
    if dim == axis:
        return Step(((parts[index], 1.0),), weights) if len(parts) == length else None
    if operation.name == "stack":
        return None
    found: list[tuple[int, float]] = []
    for part in parts:
        inner = step_of(graph, part, axis, index)
        if inner is None or inner.weights:
            return None
        share = graph.tensors[part].shape[dim] / shape[dim]
        found += [(tensor, share * own) for tensor, own in inner.parts]
    return Step(tuple(found), weights)


def _wider(graph: Graph, operation: Operation, shape: tuple[int, ...]) -> object:
    """The summand that is no broadcast bias."""
    full = [a for a in operation.args[:2]
            if isinstance(a, Ref) and graph.tensors[a.tensor].shape == shape]  # fmt: skip
    return full[0] if len(full) == 1 else None
