"""How operations use parameters: one file a family, tried in order on every operation."""

from fanin.graph.graph import Graph
from fanin.graph.reading import Reading
from fanin.graph.use import Part
from fanin.graph.uses import (
    arithmetic,
    attention,
    bilinear,
    contraction,
    convolution,
    distance,
    elementwise,
    lookup,
    normalisation,
    recurrent,
)
from fanin.graph.vocabulary import MAKERS, word

_BY_NAME = {
    name: family.read
    for family in (
        bilinear,
        contraction,
        convolution,
        distance,
        lookup,
        normalisation,
        recurrent,
    )
    for name in family.NAMES
}


def read_uses(graph: Graph) -> Reading:
    """Go over the operations once and note every use of every parameter."""
    reading = Reading(graph)
    reading.start()
    for operation in graph.operations:
        name = word(operation)
        if name in MAKERS:
            continue
        reader = _BY_NAME.get(name)
        if reader is not None and reader(operation, reading):
            continue
        if attention.read(operation, reading):
            continue
        if arithmetic.read(operation, reading) or elementwise.read(operation, reading):
            continue
        if reading.signals_of(operation):
            reading.make_signals(operation.outputs)
        for tensor in reading.weights_of(operation):
            reading.use(operation, tensor, name, Part.OTHER)
    return reading
