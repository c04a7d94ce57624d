"""Bilinear layers: a weight that is summed over against two signals at once."""

from fanin.graph.graph import Operation
from fanin.graph.reading import Reading
from fanin.graph.structure import argument, tensor_argument

NAMES = frozenset(("_trilinear",))


def read(operation: Operation, reading: Reading) -> bool:
    """The middle factor is the weight; what it is summed over are its inputs."""
    left, weight, right = (tensor_argument(operation, place) for place in range(3))
    if weight is None or not reading.is_weight(weight):
        return False
    expanded = set(argument(operation, 4, "expand2"))
    summed = set(argument(operation, 6, "sumdim"))
    rank = len(reading.shape(weight)) + len(expanded)
    kept = [dim for dim in range(rank) if dim not in expanded]
    roles = "".join("i" if dim in summed else "o" for dim in kept)
    for tensor in (left, right):
        reading.as_token(operation, tensor, "bilinear")
    reading.use_as_weight(operation, weight, "bilinear", roles, left)
    reading.make_signals(operation.outputs)
    return True
