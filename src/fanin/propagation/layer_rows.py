"""The table of layers of a prediction: one row per weight, as a measurement gives it."""

from collections.abc import Iterator, Mapping

import numpy as np

from fanin.axes import Fans, dense_axes
from fanin.graph.graph import Graph, Operation, TensorKind
from fanin.graph.role import ParameterRole
from fanin.graph.roles import read_roles
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State
from fanin.signals import LayerSignal


def root_of(pairs: Array | None) -> float | None:
    """Root mean square, from pair moments."""
    return None if pairs is None else float(np.sqrt(max(float(pairs.flat[0]), 0.0)))


_AFTER = frozenset({"view", "_unsafe_view", "squeeze", "unsqueeze", "_reshape_alias", "alias"})
_BETWEEN = _AFTER | {
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm", "native_layer_norm", "native_group_norm", "native_dropout", "transpose",
    "permute", "clone", "_to_copy",
}  # fmt: skip


def layer_rows(
    graph: Graph,
    ids: Mapping[str, int],
    states: Mapping[int, State],
    gradients: Mapping[int, Array],
) -> Iterator[LayerSignal]:
    """A row for every weight of two or more dimensions, at its first use, in order of running."""
    roles = read_roles(graph)
    seen: set[str] = set()
    for operation in graph.operations:
        owners = [graph.tensors[t].of_parameters for t in operation.inputs]
        # Parameters and buffers alone: arithmetic on weights, such as a parametrisation's.
        fixed = [
            bool(names) or graph.tensors[t].kind is TensorKind.BUFFER
            for t, names in zip(operation.inputs, owners, strict=True)
        ]
        if not operation.outputs or not any(owners) or all(fixed):
            continue
        for names in owners:
            for name in names:
                known = graph.parameters.get(name)
                if name in seen or known is None or len(known.shape) < 2:
                    continue
                seen.add(name)
                yield _layer(graph, operation, name, roles, ids, states, gradients)


def _layer(
    graph: Graph,
    operation: Operation,
    name: str,
    roles: Mapping[str, ParameterRole],
    ids: Mapping[str, int],
    states: Mapping[int, State],
    gradients: Mapping[int, Array],
) -> LayerSignal:
    output = _follow(graph, operation.outputs[0], _AFTER)
    role = roles.get(name)
    activation = role.activation.name if role and role.activation else "linear"
    activated = output
    if activation != "linear":
        before = _follow(graph, output, _BETWEEN)
        readers = graph.consumers.get(before, ())
        if len(readers) >= 1 and readers[0].outputs:
            activated = readers[0].outputs[0]
    shape = graph.parameters[name].shape
    axes = role.axes if role and role.axes else dense_axes(shape)
    fans: Fans = axes.fans(shape)
    weight = states[ids[name]]
    made, after = (states.get(t) if 0 not in graph.tensors[t].shape else None
                   for t in (output, activated))  # fmt: skip
    return LayerSignal(
        weight=name,
        module=operation.module,
        kind=role.kind if role else operation.name,
        shape=shape,
        fan_in=fans.fan_in,
        fan_out=fans.fan_out,
        weight_mean=weight.mean,
        weight_std=float(np.sqrt(weight.variance)),
        output=output,
        activation=activation,
        activated=activated,
        output_rms=root_of(made.pairs) if made else None,
        activated_rms=root_of(after.pairs) if after else None,
        gradient_rms=root_of(gradients.get(output)),
        weight_gradient_rms=root_of(gradients.get(ids[name])),
    )


def _follow(graph: Graph, tensor: int, names: frozenset[str]) -> int:
    """The tensor behind a chain of such operations, each the only reader of the one before."""
    while True:
        readers = graph.consumers.get(tensor, ())
        if len(readers) != 1 or readers[0].name not in names or not readers[0].outputs:
            return tensor
        tensor = readers[0].outputs[0]
