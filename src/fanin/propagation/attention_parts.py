"""Queries, keys and values found in the graph: who made the logits, and who reads them."""

from collections.abc import Collection, Iterator

from fanin.graph.graph import Graph, Operation, Ref
from fanin.propagation.call import Call, functional_name

_TO_SOFTMAX = {
    "view", "_unsafe_view", "reshape", "transpose", "permute", "clone", "contiguous", "_to_copy",
    "alias", "expand", "unsqueeze", "squeeze", "mul", "div", "add", "sub", "masked_fill", "where",
}  # fmt: skip
"""Between the products of queries with keys and their softmax."""
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution"}
_FURTHEST = 40


def read_from(graph: Graph, tensor: int) -> int | None:
    """The tensor that a linear layer read to make this one, through views, norms and rotations."""
    for maker in _makers(graph, tensor, _PRODUCTS):
        data = data_argument(graph, maker)
        if data is not None:
            return data
    return None


def _makers(graph: Graph, tensor: int, wanted: Collection[str]) -> Iterator[Operation]:
    """The nearest operations of these names that a tensor was made by, nearest first."""
    front, seen = [tensor], set[int]()
    while front and len(seen) < _FURTHEST:
        current = front.pop(0)
        if current in seen:
            continue
        seen.add(current)
        maker = graph.producer.get(current)
        if maker is not None and maker.name in wanted:
            yield maker
        elif maker is not None:
            front += [i for i in maker.inputs if not graph.tensors[i].of_parameters]


def data_argument(graph: Graph, operation: Operation) -> int | None:
    """The factor that is no weight, where the other one is."""
    first = 1 if operation.name in ("addmm", "baddbmm") else 0
    factors = [a.tensor for a in operation.args[first : first + 2] if isinstance(a, Ref)]
    data = [t for t in factors if not is_weight(graph, t)]
    return data[0] if len(factors) == 2 and len(data) == 1 else None


def is_weight(graph: Graph, tensor: int) -> bool:
    """Whether a tensor is made of parameters alone."""
    info = graph.tensors[tensor]
    return info.kind == "parameter" or bool(info.of_parameters)


def origin(graph: Graph, tensor: int | None) -> int | None:
    """Under views and copies."""
    views = {"view", "_unsafe_view", "reshape", "clone", "transpose", "permute", "contiguous",
             "unsqueeze", "squeeze", "alias", "detach", "_to_copy", "expand"}  # fmt: skip
    while tensor is not None and (maker := graph.producer.get(tensor)) is not None:
        if maker.name not in views or not isinstance(maker.args[0], Ref):
            break
        tensor = maker.args[0].tensor
    return tensor


def softmax_behind(graph: Graph, tensor: int) -> Operation | None:
    """The softmax whose shares these are, through views and dropout."""
    through = {"view", "_unsafe_view", "expand", "clone", "_to_copy", "native_dropout", "alias",
               "dropout", "reshape", "transpose", "detach", "where", "masked_fill"}  # fmt: skip
    for _ in range(8):
        maker = graph.producer.get(tensor)
        if maker is None:
            return None
        if maker.name in ("_softmax", "_safe_softmax"):
            return maker
        if functional_name(maker.name) not in through:
            return None
        refs = [a for a in maker.args if isinstance(a, Ref)]
        if not refs:
            return None
        tensor = refs[-1].tensor if maker.name == "where" else refs[0].tensor
    return None


def keys_behind(graph: Graph, softmax: Operation) -> int | None:
    """The keys of a softmax's logits: the second factor of the product that they come from."""
    return _factor_behind(graph, softmax, 1)


def queries_behind(graph: Graph, softmax: Operation) -> int | None:
    """The queries of a softmax's logits: the first factor of that product."""
    return _factor_behind(graph, softmax, 0)


def _factor_behind(graph: Graph, softmax: Operation, position: int) -> int | None:
    source = softmax.args[0]
    if not isinstance(source, Ref):
        return None
    for maker in _makers(graph, source.tensor, ("bmm", "baddbmm")):
        found = maker.args[position + (maker.name == "baddbmm")]
        return found.tensor if isinstance(found, Ref) else None
    return None


def softmax_of_logits(call: Call) -> Operation | None:
    """The softmax that reads the logits which this product of queries with keys makes."""
    tensor = call.operation.outputs[0]
    for _ in range(8):
        readers = call.graph.consumers.get(tensor, ())
        if not readers or not readers[0].outputs:
            return None
        name = functional_name(readers[0].name)
        if "softmax" in name:
            return readers[0]
        if name not in _TO_SOFTMAX:
            return None
        if name in ("mul", "div", "add", "sub") and not any(
            isinstance(a, Ref) and a.tensor == tensor for a in readers[0].args
        ):
            return None
        tensor = readers[0].outputs[0]
    return None


def under_transposes(graph: Graph, tensor: int) -> int:
    """The tensor that this one is a transpose of."""
    while (maker := graph.producer.get(tensor)) is not None and maker.name in ("t", "transpose"):
        source = maker.args[0]
        if not isinstance(source, Ref):
            break
        tensor = source.tensor
    return tensor
