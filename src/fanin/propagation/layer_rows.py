"""The table of layers of a prediction: the rows that a measurement has."""

from collections.abc import Iterator, Mapping

import numpy as np

from fanin.graph.graph import Graph
from fanin.graph.roles import read_roles
from fanin.graph.weight_uses import fans_of, kind_of, weight_uses
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State
from fanin.signals import LayerSignal, TensorSignal


def root_of(pairs: Array | None) -> float | None:
    """Root mean square, from pair moments."""
    return None if pairs is None else float(np.sqrt(max(float(pairs.flat[0]), 0.0)))


def layer_rows(
    graph: Graph,
    ids: Mapping[str, int],
    states: Mapping[int, State],
    gradients: Mapping[int, Array],
    tensors: Mapping[int, TensorSignal],
) -> Iterator[LayerSignal]:
    """A row for every weight of two or more dimensions, at its first use, in order of running."""
    roles = read_roles(graph)
    for use in weight_uses(graph):
        role, shape = roles[use.weight], graph.parameters[use.weight].shape
        fans = fans_of(shape, role)
        # What the layer multiplies by, where that is computed: weight norm's g·v/|v|.
        weight = states.get(use.value, states[ids[use.weight]])
        made, after = tensors.get(use.output), tensors.get(use.activated)
        yield LayerSignal(
            weight=use.weight,
            module=use.weight.rpartition(".")[0],
            kind=kind_of(use, role),
            shape=shape,
            fan_in=fans.fan_in,
            fan_out=fans.fan_out,
            weight_mean=weight.mean,
            weight_std=float(np.sqrt(weight.variance)),
            output=use.output,
            activation=use.activation,
            activated=use.activated,
            output_rms=made.rms if made else None,
            activated_rms=after.rms if after else None,
            gradient_rms=made.gradient_rms if made else None,
            weight_gradient_rms=root_of(gradients.get(ids[use.weight])),
        )
