"""Distances between signals and learned points: codebooks, centres, prototypes."""

from fanin.graph.graph import Operation
from fanin.graph.reading import Reading

NAMES = frozenset(("_cdist_forward", "cdist", "_euclidean_dist", "pairwise_distance"))


def read(operation: Operation, reading: Reading) -> bool:
    """A parameter among the points lies where the signals lie."""
    for tensor in reading.weights_of(operation):
        reading.as_token(operation, tensor, "distance")
    reading.make_signals(operation.outputs[:1])
    return True
