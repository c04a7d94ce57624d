"""Tables that are looked up: embeddings, bags, position tables, gathered parameters."""

from dataclasses import replace

from fanin.axes import Axes
from fanin.graph.graph import Operation, Ref, TensorKind
from fanin.graph.labels import ANONYMOUS, Atom, Labels
from fanin.graph.reading import Reading, WeightValue
from fanin.graph.structure import argument, tensor_argument
from fanin.graph.use import Part
from fanin.graph.uses.contraction import factors
from fanin.graph.vocabulary import COPIES, MERGES, PERMUTATIONS, RESHAPES, SLICES, word

_TABLES = frozenset(
    ("embedding", "_embedding_bag", "_embedding_bag_forward_only", "embedding_renorm")
)
_GATHERS = frozenset(("index", "index_select", "gather", "take", "_unsafe_index"))
NAMES = _TABLES | _GATHERS
_CHOOSING = _GATHERS | SLICES
_KEEPING = RESHAPES | PERMUTATIONS | COPIES | {"expand"}


def read(operation: Operation, reading: Reading) -> bool:
    """Rows of a table become signals; a parameter shuffled by fixed indices stays a weight."""
    table = tensor_argument(operation, 0, "weight")
    if table is None or not reading.is_weight(table):
        return False
    by_data = word(operation) in _TABLES or _chosen_by_data(operation, reading)
    if word(operation) in _GATHERS and (not by_data or _stays_weight(operation, reading, table)):
        value = reading.weights[table]
        labels = {
            n: _gathered(operation, reading, known, by_data).after("index")
            for n, known in value.labels.items()
        }
        for out in operation.outputs:
            reading.weights[out] = WeightValue(labels, value.offset)
        return True
    for name in reading.weights[table].labels:
        rank = len(reading.graph.parameters[name].shape)
        axes = Axes(outputs=tuple(range(1, rank)), batch=0) if rank > 1 else Axes(outputs=0)
        reading.use(operation, table, "embedding", Part.TABLE, axes=axes, parameter=name)
    reading.make_signals(operation.outputs[:1])
    return True


def _gathered(operation: Operation, reading: Reading, known: Labels, by_data: bool) -> Labels:
    """Labels of the chosen parts: the other axes stay, the axis of choice does where it can."""
    if known.dims is None:
        return known
    if word(operation) == "index_select":
        place, index = argument(operation, 1, "dim") % len(known.dims), operation.inputs[-1]
    elif word(operation) in ("index", "_unsafe_index"):
        given = [(k, v.tensor) for k, v in enumerate(operation.args[1]) if isinstance(v, Ref)]
        if len(given) != 1 or reading.graph.tensors[given[0][1]].dtype in ("bool", "uint8"):
            return known.opaque()
        place, index = given[0]
    else:
        return known.opaque()
    shape = reading.shape(index)
    here = known.dims[place]
    if len(shape) == 1 and len(here) == 1 and not by_data:
        chosen = [(Atom(here[0].axis, shape[0], here[0].step),)]  # rows in another order
    else:
        chosen = [(Atom(ANONYMOUS, size),) for size in shape]
    return replace(known, dims=(*known.dims[:place], *chosen, *known.dims[place + 1 :]))


def _stays_weight(operation: Operation, reading: Reading, table: int) -> bool:
    """Whether data choose among matrices that then multiply a signal, or among their biases.

    A row of a table is a signal; a matrix per expert or relation, ``w[chosen]``, is a weight, and
    so is the bias ``b[chosen]`` that is added behind it.
    """
    graph, rank = reading.graph, len(reading.shape(table))
    if rank < 2:
        return False
    front, seen = list(operation.outputs), set[int]()
    while front:
        tensor = front.pop()
        if tensor in seen:
            continue
        seen.add(tensor)
        for consumer in graph.consumers.get(tensor, ()):
            both = factors(consumer)
            if both is not None and rank > 2:
                other = both[0] if both[1] == tensor else both[1]
                return not graph.tensors[other].of_parameters
            if word(consumer) == "add" and rank == 2:
                others = [t for t in consumer.inputs if t != tensor]
                return any(_of_chosen_matrices(reading, t, table) for t in others)
            if word(consumer) in _KEEPING:
                front.extend(consumer.outputs)
    return False


def _of_chosen_matrices(reading: Reading, tensor: int, table: int) -> bool:
    """Whether a signal is a product with one of a stack of matrices, one to a row of the table."""
    graph, rows = reading.graph, reading.shape(table)[0]
    front, seen = [tensor], set[int]()
    while front:
        current = front.pop()
        maker = graph.producer.get(current)
        if maker is None or current in seen:
            continue
        seen.add(current)
        if word(maker) in _KEEPING | MERGES | {"updated"}:
            front.extend(maker.inputs)
        for factor in factors(maker) or ():
            origin = factor
            while (made := graph.producer.get(origin)) and word(made) in _KEEPING | _CHOOSING:
                origin = made.inputs[0]
            known = graph.tensors[origin]
            stacked = len(known.shape) > 2 and known.shape[0] == rows
            if known.kind is TensorKind.PARAMETER and stacked:
                return True
    return False


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
