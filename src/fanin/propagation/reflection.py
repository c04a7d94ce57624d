"""Transforms of real signals that are even: the real part then holds all of their power.

The real part of a transform reads x(t) + x(−t), so that it is even itself, and so is the gradient
that it sends back. Where such a signal comes through norms and residual sums to the next transform
over the same axes, that one finds it even: models that mix tokens by transforms do so everywhere.
"""

from collections.abc import Mapping

from fanin.graph.graph import Graph, Operation, Ref
from fanin.propagation.call import Call, CallParts, functional_name
from fanin.propagation.state import State

_ROWS = {"native_layer_norm", "_fused_rms_norm"}
_SAME = {"clone", "contiguous", "alias", "native_dropout", "dropout_identity"}
_SUMS = {"add", "sub"}
_FURTHEST = 60


def _first(operation: Operation | None) -> int | None:
    source = operation.args[0] if operation is not None and operation.args else None
    return source.tensor if isinstance(source, Ref) else None


def transform_behind(graph: Graph, tensor: int) -> Operation | None:
    """The transform of real numbers whose bins are read as a complex tensor."""
    maker = graph.producer.get(tensor)
    if maker is None or maker.name != "_fft_c2c":
        return None
    source = _first(maker)
    copy = None if source is None else graph.producer.get(source)
    real = _first(copy)
    if copy is None or real is None or copy.name != "_to_copy":
        return None
    return maker if graph.tensors[real].dtype.startswith("float") else None


def _part_of_transform(graph: Graph, tensor: int) -> tuple[Operation, int] | None:
    """A transform, and 0 for its real or 1 for its imaginary part, where the tensor is that."""
    maker = graph.producer.get(tensor)
    parts = _first(maker)
    if maker is None or maker.name != "select" or parts is None:
        return None
    split = graph.producer.get(parts)
    bins = _first(split)
    if split is None or split.name != "view_as_real" or bins is None:
        return None
    last = len(graph.tensors[parts].shape) - 1
    if int(maker.args[1]) % (last + 1) != last:
        return None
    transform = transform_behind(graph, bins)
    return None if transform is None else (transform, int(maker.args[2]))


def evenness(
    graph: Graph,
    states: Mapping[int, State],
    tensor: int,
    dims: tuple[int, ...],
    left: int = _FURTHEST,
) -> float:
    """E[x(t) x(−t)]/E[x²] of a signal, t counted along some axes at once; 0 where unknown."""
    maker = graph.producer.get(tensor)
    if maker is None or left == 0:
        return 0.0
    name, source = functional_name(maker.name), _first(maker)
    part = _part_of_transform(graph, tensor)
    if part is not None:
        return (1.0, -1.0)[part[1]] if tuple(part[0].args[1]) == dims else 0.0
    if source is None or graph.tensors[source].shape != graph.tensors[tensor].shape:
        return 0.0
    if name in _ROWS | _SAME:
        return evenness(graph, states, source, dims, left - 1)
    if name not in _SUMS:
        return 0.0
    total = shared = 0.0
    for ref in maker.args[:2]:
        if not isinstance(ref, Ref) or ref.tensor not in states:
            return 0.0
        power = states[ref.tensor].second_moment
        total += power
        shared += power * evenness(graph, states, ref.tensor, dims, left - 1)
    return shared / total if total > 0 else 0.0


def evenness_of_gradient(
    graph: Graph, parts: CallParts, tensor: int, dims: tuple[int, ...], left: int = _FURTHEST
) -> float:
    """The same of a tensor's gradient, by what each of its readers has sent."""
    total = shared = 0.0
    for reader in graph.consumers.get(tensor, ()):
        power = parts.sent.get((reader.index, tensor), 0.0)
        total += power
        if power > 0 and left > 0:
            shared += power * _sent_evenly(graph, parts, reader, dims, left - 1)
    return shared / total if total > 0 else 0.0


def _sent_evenly(
    graph: Graph, parts: CallParts, reader: Operation, dims: tuple[int, ...], left: int
) -> float:
    out, name = reader.outputs[0], functional_name(reader.name)
    if name == "_to_copy":
        bins = [r.outputs[0] for r in graph.consumers.get(out, ()) if r.name == "_fft_c2c"]
        made = transform_behind(graph, bins[0]) if len(bins) == 1 else None
        if made is None or tuple(made.args[1]) != dims or real_part_read(graph, bins[0]) is None:
            return 0.0
        return 1.0
    if name in _ROWS | _SAME | _SUMS:
        return evenness_of_gradient(graph, parts, out, dims, left)
    return 0.0


def real_part_read(graph: Graph, bins: int) -> int | None:
    """The real part of a complex tensor, where nothing else of it is read."""
    (split,) = graph.consumers.get(bins, ())[:1] or (None,)
    if split is None or split.name != "view_as_real" or len(graph.consumers[bins]) != 1:
        return None
    readers = graph.consumers.get(split.outputs[0], ())
    if len(readers) != 1 or readers[0].name != "select" or int(readers[0].args[2]) != 0:
        return None
    last = len(graph.tensors[split.outputs[0]].shape) - 1
    return readers[0].outputs[0] if int(readers[0].args[1]) % (last + 1) == last else None


def evenness_of_bins(call: Call) -> float:
    """Evenness of the gradient that the transform of a tensor's complex copy receives.

    0 where more than the real part of the transform is read: its gradient is then complex.
    """
    graph = call.graph
    readers = graph.consumers.get(call.operation.outputs[0], ())
    if len(readers) != 1 or readers[0].name != "_fft_c2c":
        return 0.0
    read = real_part_read(graph, readers[0].outputs[0])
    if read is None:
        return 0.0
    return evenness_of_gradient(graph, call.parts, read, tuple(readers[0].args[1]))
