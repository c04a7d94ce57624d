"""Where each weight is first used: the layers of a model, in order of running."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from fanin.axes import Fans, dense_axes
from fanin.graph.activation_names import activation_name
from fanin.graph.graph import Graph, Operation, TensorKind
from fanin.graph.role import ParameterRole, Role

# Operations that use a weight, and what a layer of them is called.
_KINDS = {
    "addmm": "linear",
    "mm": "linear",
    "mv": "linear",
    "addmv": "linear",
    "linear": "linear",
    "bmm": "linear",
    "baddbmm": "linear",
    "_grouped_mm": "linear",
    "convolution": "convolution",
    "embedding": "embedding",
    "_embedding_bag": "embedding",
    "_thnn_fused_lstm_cell": "lstm",
    "_thnn_fused_gru_cell": "gru",
    "mkldnn_rnn_layer": "lstm",
    "_cudnn_rnn": "rnn",
    "lstm": "lstm",
    "gru": "gru",
    "rnn_tanh": "rnn",
    "rnn_relu": "rnn",
}
_VIEWS = frozenset({"view", "_unsafe_view", "alias", "squeeze", "unsqueeze", "_reshape_alias"})
# What may stand between a weight and the activation that its output meets first.
_TRANSPARENT = _VIEWS | {
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm",
    "native_layer_norm",
    "native_group_norm",
    "native_dropout",
    "transpose",
    "permute",
    "clone",
    "_to_copy",
}


@dataclass(frozen=True)
class WeightUse:
    """Where one weight is used first.

    Args:
        weight: its (first) name.
        value: the tensor that is multiplied by: the weight, a view of it, or what is computed
            from it.
        operation: the operation that multiplies by it.
        output: tensor that the layer makes, bias included and in its final shape.
        activation: what that meets first; linear for none.
        activated: the tensor behind that activation, or ``output``.
    """

    weight: str
    value: int
    operation: Operation
    output: int
    activation: str
    activated: int


def weight_uses(graph: Graph) -> Iterator[WeightUse]:
    """The first use of every weight of two or more dimensions, in order of running."""
    seen: set[str] = set()
    for operation in graph.operations:
        if not uses_weight(graph, operation):
            continue
        for value in operation.inputs:
            name = _main_parameter(graph, value)
            if name is None or name in seen:
                continue
            seen.add(name)
            output = _finished(graph, operation.outputs[0])
            activation, activated = _activation(graph, output)
            yield WeightUse(name, value, operation, output, activation, activated)


def uses_weight(graph: Graph, operation: Operation) -> bool:
    """Whether the operation multiplies data by a weight (or looks rows of it up)."""
    if operation.name not in _KINDS or not operation.outputs:
        return False
    weights = [_is_weight(graph, value) for value in operation.inputs]
    # All weights: arithmetic on weights alone, such as a low-rank product or a parametrisation.
    return any(weights) and not all(weights)


def fans_of(shape: tuple[int, ...], role: ParameterRole) -> Fans:
    """Fans of a weight in its role."""
    if role.axes is not None:
        return role.axes.fans(shape)
    if role.role is Role.EMBEDDING:
        return Fans(1.0, float(shape[-1]))
    return dense_axes(shape).fans(shape)


def kind_of(use: WeightUse, role: ParameterRole) -> str:
    """What a layer is called, such as linear or convolution."""
    return role.kind or _KINDS[use.operation.name]


def _main_parameter(graph: Graph, value: int) -> str | None:
    """The parameter of two or more dimensions that a value is made of: of several the largest."""
    names = [
        name for name in graph.tensors[value].of_parameters if len(graph.parameters[name].shape) > 1
    ]
    if not names:
        return None

    def size(name: str) -> int:
        return torch.Size(graph.parameters[name].shape).numel()

    name = max(names, key=size)
    return graph.parameters[name].tied_to or name


def _is_weight(graph: Graph, value: int) -> bool:
    info = graph.tensors[value]
    return bool(info.of_parameters) or info.kind in (TensorKind.PARAMETER, TensorKind.BUFFER)


def _finished(graph: Graph, value: int) -> int:
    """The layer's output once its bias is added and its shape restored."""
    while True:
        readers = graph.consumers.get(value, ())
        if len(readers) != 1 or not readers[0].outputs:
            return value
        reader = readers[0]
        others = [other for other in reader.inputs if other != value]
        adds_bias = (
            reader.name in ("add", "add_") and others and all(_is_weight(graph, o) for o in others)
        )
        if reader.name not in _VIEWS and not adds_bias:
            return value
        if graph.tensors[reader.outputs[0]].shape[-1:] != graph.tensors[value].shape[-1:]:
            return value  # flattened or split into heads: no longer this layer's shape
        value = reader.outputs[0]


def _activation(graph: Graph, value: int) -> tuple[str, int]:
    """Name of the activation that reads a value first, and its output."""
    at = value
    while True:
        readers = [op for op in graph.consumers.get(at, ()) if op.outputs]
        for reader in readers:
            name = activation_name(reader)
            if name is not None:
                return name, reader.outputs[0]
        if len(readers) != 1 or readers[0].name not in _TRANSPARENT or readers[0].inputs[0] != at:
            return "linear", value
        at = readers[0].outputs[0]
