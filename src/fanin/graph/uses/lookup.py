"""Tables that are looked up: embeddings, bags, position tables, gathered parameters."""

from fanin.axes import Axes
from fanin.graph.graph import Operation
from fanin.graph.reading import Reading, WeightValue
from fanin.graph.structure import tensor_argument
from fanin.graph.use import Part
from fanin.graph.vocabulary import word

_TABLES = frozenset(
    ("embedding", "_embedding_bag", "_embedding_bag_forward_only", "embedding_renorm")
)
_GATHERS = frozenset(("index", "index_select", "gather", "take", "_unsafe_index"))
NAMES = _TABLES | _GATHERS


def read(operation: Operation, reading: Reading) -> bool:
    """Rows of a table become signals; a parameter shuffled by fixed indices stays a weight."""
    table = tensor_argument(operation, 0, "weight")
    if table is None or not reading.is_weight(table):
        return False
    if word(operation) in _GATHERS and not _chosen_by_data(operation, reading):
        value = reading.weights[table]
        labels = {n: known.opaque().after("index") for n, known in value.labels.items()}
        for out in operation.outputs:
            reading.weights[out] = WeightValue(labels, value.offset)
        return True
    for name in reading.weights[table].labels:
        rank = len(reading.graph.parameters[name].shape)
        axes = Axes(outputs=tuple(range(1, rank)), batch=0) if rank > 1 else Axes(outputs=0)
        reading.use(operation, table, "embedding", Part.TABLE, axes=axes, parameter=name)
    reading.make_signals(operation.outputs[:1])
    return True


def _chosen_by_data(operation: Operation, reading: Reading) -> bool:
    """Whether the indices depend on the model's inputs."""
    return any(depends_on_inputs(reading, index) for index in operation.inputs[1:])


def depends_on_inputs(reading: Reading, tensor: int) -> bool:
    """Whether any input of the model reaches a tensor."""
    given = set(reading.graph.inputs)
    front, seen = [tensor], set()
    while front:
        current = front.pop()
        if current in given:
            return True
        if current in seen:
            continue
        seen.add(current)
        maker = reading.graph.producer.get(current)
        if maker is not None:
            front.extend(maker.inputs)
    return False


def ancestors_named(reading: Reading, tensor: int, names: frozenset[str]) -> set[str]:
    """Which of these operations took part in making a control tensor."""
    front, seen, found = [tensor], set(), set()
    while front:
        current = front.pop()
        if current in seen or current in reading.signals:
            continue
        seen.add(current)
        maker = reading.graph.producer.get(current)
        if maker is not None:
            if word(maker) in names:
                found.add(word(maker))
            front.extend(maker.inputs)
    return found
