"""Matrix products: linear layers, ``(in, out)`` matrices, einsum, stacked experts."""

from dataclasses import replace

from fanin.graph.graph import Operation
from fanin.graph.labels import ANONYMOUS, Atom, Labels
from fanin.graph.reading import Reading, WeightValue
from fanin.graph.structure import tensor_argument
from fanin.graph.use import Part
from fanin.graph.vocabulary import word

# Operation -> position of the two factors, and what each dimension of a factor is when that
# factor is the weight: (b)atch, (i)nput, (o)utput.
_FACTORS: dict[str, tuple[int, int, str, str]] = {
    "mm": (0, 1, "oi", "io"),
    "addmm": (1, 2, "oi", "io"),
    "_addmm_activation": (1, 2, "oi", "io"),
    "bmm": (0, 1, "boi", "bio"),
    "baddbmm": (1, 2, "boi", "bio"),
    "addbmm": (1, 2, "boi", "bio"),
    "mv": (0, 1, "oi", "i"),
    "addmv": (1, 2, "oi", "i"),
    "dot": (0, 1, "i", "i"),
    "vdot": (0, 1, "i", "i"),
    "_grouped_mm": (0, 1, "oi", "bio"),
    "_scaled_mm": (0, 1, "oi", "io"),
    "_int_mm": (0, 1, "oi", "io"),
    "_sparse_mm": (0, 1, "oi", "io"),
    "sparse_mm": (0, 1, "oi", "io"),
    "_spmm": (0, 1, "oi", "io"),
    "spmm": (0, 1, "oi", "io"),
    "_sparse_addmm": (1, 2, "oi", "io"),
    "linear": (0, 1, "oi", "oi"),
    "mkldnn_linear": (0, 1, "oi", "oi"),
    "_mkl_linear": (0, 1, "oi", "oi"),
}
NAMES = frozenset(_FACTORS)


def factors(operation: Operation) -> tuple[int, int] | None:
    """Ids of the two factors of a product; None for other operations."""
    places = _FACTORS.get(word(operation))
    if places is None:
        return None
    left = tensor_argument(operation, places[0])
    right = tensor_argument(operation, places[1])
    return None if left is None or right is None else (left, right)


def read(operation: Operation, reading: Reading) -> bool:
    """A product of a weight and a signal, of two weights, or of two signals."""
    both = factors(operation)
    if both is None:
        return False
    left, right = both
    name = word(operation)
    _, _, left_roles, right_roles = _FACTORS[name]
    if len(reading.shape(left)) == 3 and name == "_grouped_mm":
        left_roles = "boi"
    if reading.is_weight(left) and reading.is_weight(right):
        signal = _signal_of_two_weights(operation, reading, left, right)
        if signal is None:
            _multiply_weights(operation, reading, left, right)
            return True
        reading.as_token(operation, signal, "linear")
        weight = right if signal == left else left
    elif reading.is_weight(right) or reading.is_weight(left):
        if not reading.signals_of(operation) and (
            ".parametrizations." in f".{operation.module}" or _returns_to_weight(operation, reading)
        ):
            return False  # an orthogonal map, spectral norm's power iteration: arithmetic on it
        weight = right if reading.is_weight(right) else left
    else:
        weight = None
    if weight is not None:
        source = left if weight == right else right
        family = "linear" if name not in ("bmm", "baddbmm", "_grouped_mm") else "einsum"
        roles = right_roles if weight == right else left_roles
        if family == "einsum" and reading.shape(weight)[0] == 1:
            family = "linear"
        reading.use_as_weight(operation, weight, family, roles, source)
        reading.make_signals(operation.outputs)
    elif reading.is_signal(left) or reading.is_signal(right):
        reading.make_signals(operation.outputs)
    _read_addend(operation, reading, has_weight=weight is not None)
    return True


def _read_addend(operation: Operation, reading: Reading, *, has_weight: bool) -> None:
    name = word(operation)
    if name in ("linear", "mkldnn_linear"):
        addend = tensor_argument(operation, 2, "bias")
    elif name in ("addmm", "baddbmm", "addbmm", "addmv", "_addmm_activation", "_sparse_addmm"):
        addend = tensor_argument(operation, 0)
    else:
        return
    if addend is None or operation.kwargs.get("beta", 1) == 0:
        return
    if reading.is_weight(addend):
        part = Part.BIAS if has_weight else Part.TERM
        reading.use_as_vector(operation, addend, "bias", part, operation.outputs[0])
    elif reading.is_signal(addend):
        reading.addends[operation.index] = addend


def _signal_of_two_weights(
    operation: Operation, reading: Reading, left: int, right: int
) -> int | None:
    """Which factor of a product of two weights stands for data; None if the product is a weight.

    ``latents @ weight`` (learned queries) and ``B @ A`` (a low-rank weight) look alike.  A bias
    in the product, or a product in the module that owns only one of the two, tells them apart;
    else what becomes of the product does.
    """
    if word(operation) in ("addmm", "addmv", "linear"):
        return left
    own_left = _owned(operation, reading.weights[left])
    own_right = _owned(operation, reading.weights[right])
    if own_left != own_right:
        return left if own_right else right
    return None if _serves_as_weight(operation, reading) else left


def _owned(operation: Operation, value: WeightValue) -> bool:
    """Whether the running module, or a part of it, owns one of the parameters."""
    place = operation.module
    for name in value.labels:
        owner = name.rpartition(".")[0].split(".parametrizations")[0]
        if owner == place or (place.split(".parametrizations")[0] == owner):
            return True
    return False


def _serves_as_weight(operation: Operation, reading: Reading) -> bool:
    """Whether a product made of parameters alone goes on to be the weight of data.

    It is followed through whatever else is computed from parameters alone, to the operation at
    which data enters: a product of weights stands there in the weight's place.
    """
    graph = reading.graph
    front, seen = list(operation.outputs), set[int]()
    while front:
        tensor = front.pop()
        if tensor in seen or not graph.tensors[tensor].of_parameters:
            continue
        seen.add(tensor)
        for consumer in graph.consumers.get(tensor, ()):
            if all(graph.tensors[out].of_parameters for out in consumer.outputs):
                front.extend(consumer.outputs)
                continue
            both = factors(consumer)
            place = both[1] if both is not None else None
            if "conv" in word(consumer):
                place = tensor_argument(consumer, 1)
            if place == tensor:
                return True
    return False


def _returns_to_weight(operation: Operation, reading: Reading) -> bool:
    """Whether a product with constants comes back to the parameter that it was made of."""
    graph = reading.graph
    owners = {name for t in reading.weights_of(operation) for name in reading.weights[t].labels}
    made, front, readers = set(operation.outputs), list(operation.outputs), list[Operation]()
    while front:
        for consumer in graph.consumers.get(front.pop(), ()):
            if not all(graph.tensors[out].of_parameters for out in consumer.outputs):
                continue
            readers.append(consumer)
            fresh = [out for out in consumer.outputs if out not in made]
            made.update(fresh)
            front.extend(fresh)
    return any(
        tensor not in made and owners & set(graph.tensors[tensor].of_parameters)
        for reader in readers
        for tensor in reader.inputs
    )


def _multiply_weights(operation: Operation, reading: Reading, left: int, right: int) -> None:
    """A low-rank product: each factor keeps its outer axes and has summed over the inner one."""
    out_shape = reading.shape(operation.outputs[0])
    labels: dict[str, Labels] = {}
    for tensor, inner, place in ((left, -1, 0), (right, -2, 1)):
        rank = len(reading.shape(tensor))
        for name, known in reading.weights[tensor].labels.items():
            outer = _outer(known, inner % rank, place, rank, out_shape)
            labels[name] = outer.after(word(operation))
    reading.weights[operation.outputs[0]] = WeightValue(labels)


def _outer(known: Labels, inner: int, place: int, rank: int, out_shape: tuple[int, ...]) -> Labels:
    if known.dims is None or rank != len(out_shape) or rank < 2:
        return known.opaque()
    summed = known.summed | {a.axis for a in known.dims[inner] if a.axis != ANONYMOUS}
    dims = list(known.dims)
    other = rank - 1 if place == 0 else rank - 2
    dims[inner] = (Atom(ANONYMOUS, out_shape[other]),)
    return replace(known, dims=tuple(dims), summed=frozenset(summed))
