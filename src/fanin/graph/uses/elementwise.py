"""A parameter that meets a signal element by element, or takes a place beside it."""

from fanin.axes import Axes
from fanin.graph.graph import Operation
from fanin.graph.labels import Labels
from fanin.graph.reading import Reading
from fanin.graph.use import Part
from fanin.graph.vocabulary import MERGES, word

_FACTORS = frozenset(("mul", "div", "multiply", "divide", "true_divide", "pow"))
_TERMS = frozenset(("add", "sub", "rsub", "lerp"))
_SLOPES = frozenset(("_prelu_kernel", "prelu", "_prelu_kernel_backward"))


def read(operation: Operation, reading: Reading) -> bool:
    """Add, multiply, PReLU, concatenation and masks between parameters and signals."""
    weights = reading.weights_of(operation)
    signals = reading.signals_of(operation)
    if not weights or not signals:
        return False
    name = word(operation)
    if name in _SLOPES:
        part = Part.SLOPE
    elif name in MERGES:
        part = Part.TOKEN
    elif name in _FACTORS:
        part = Part.FACTOR
    elif name in _TERMS:
        part = Part.TERM
    elif name in ("addcmul", "addcdiv"):
        part = Part.TERM if operation.inputs[0] in weights else Part.FACTOR
    else:
        part = Part.OTHER
    for tensor in weights:
        for parameter, labels in reading.weights[tensor].labels.items():
            shape = reading.graph.parameters[parameter].shape
            axes: Axes | None = Axes(outputs=tuple(range(len(shape))))
            use_part = part
            if part is Part.FACTOR and name == "mul":
                summed = _summed(operation, reading, labels, shape)
                if summed is not None:
                    axes, use_part = summed, Part.WEIGHT
            family = "elementwise" if use_part is not Part.SLOPE else "prelu"
            reading.use(
                operation,
                tensor,
                "einsum" if use_part is Part.WEIGHT else family,
                use_part,
                source=signals[0],
                axes=axes,
                parameter=parameter,
            )
    reading.make_signals(operation.outputs)
    return True


def _summed(
    operation: Operation, reading: Reading, labels: Labels, shape: tuple[int, ...]
) -> Axes | None:
    """Axes of a weight of which the product with a signal is summed at once, as in a dot product.

    Only sums count, not means: a mean belongs to pooling.
    """
    out = operation.outputs[0]
    rank = len(reading.shape(out))
    known = labels.expanded(reading.shape(out))
    if known.dims is None:
        return None
    consumers = reading.graph.consumers.get(out, ())
    if len(consumers) != 1 or word(consumers[0]) not in ("sum", "nansum"):
        return None
    total = consumers[0]
    dims = total.args[1] if len(total.args) > 1 else total.kwargs.get("dim")
    dims = range(rank) if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {d % rank for d in dims}
    inputs = [a for a in range(len(shape)) if any(d in gone for d, _ in known.dimensions_of(a))]
    inputs = [a for a in inputs if shape[a] > 1]
    if not inputs:
        return None
    rest = tuple(a for a in range(len(shape)) if a not in inputs)
    # What is not summed runs alongside the signal: independent vectors, as the heads of GAT.
    return Axes(outputs=(), inputs=tuple(inputs), batch=rest)
