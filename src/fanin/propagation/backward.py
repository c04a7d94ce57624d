"""The backward walk: second moments of the loss's gradient, from the outputs to the inputs.

Each operation sends what its outputs have received to what it reads: by the ways that its rule
knows, along samples that were carried through it, or, without a rule, through a run on samples.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from fanin.graph.graph import Graph
from fanin.propagation.call import Call, CallParts
from fanin.propagation.components import (
    MOST_SOURCES,
    Component,
    Gradient,
    joined,
    total_pairs,
    total_profile,
)
from fanin.propagation.cotangent import Seed
from fanin.propagation.families.pointwise import pointwise_backward
from fanin.propagation.nothing import back_past_nothing, is_empty, reads_nothing
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward_rule, forward_rule
from fanin.propagation.sample_paths import on_path, path_backward
from fanin.propagation.sampling import marginal_powers, moments_under, sample_backward
from fanin.propagation.sending import Sent, send
from fanin.propagation.state import State

_SAMPLES = "along samples"
"""The source of what came along samples."""
_UNSETTLED = Component(np.zeros(()))
"""Stands for it until all of it has come."""


def walk_backward(
    graph: Graph, states: Mapping[int, State], seeds: Mapping[int, Seed], parts: CallParts
) -> dict[int, Array]:
    """Pair moments of the gradient of every tensor that the seeds depend on.

    Args:
        graph: what ran.
        states: of every tensor, from the forward walk.
        seeds: the loss's gradient with respect to some tensors.
        parts: what forward rules left.
    """
    gradients: dict[int, Gradient] = {
        # Outputs of one shape are differentiated along one direction.
        tensor: {("seed", states[tensor].shape): Component(seed.pairs, profile=seed.profile)}
        for tensor, seed in seeds.items()
    }
    sent: Sent = parts.sent
    parts.seeds.update({tensor: float(seed.pairs.flat[0]) for tensor, seed in seeds.items()})
    for operation in reversed(graph.operations):
        if any(out in gradients for out in operation.outputs):
            _step(Call(graph, operation, states, parts), gradients, sent)
    _settle(graph.tensors, gradients, states, parts)
    return {t: total_pairs(g, states[t]) for t, g in gradients.items() if t in states}


def _step(call: Call, gradients: dict[int, Gradient], sent: Sent) -> None:
    operation, states = call.operation, call.states
    outs = [k for k, out in enumerate(operation.outputs) if out in gradients and out in states]
    _settle(operation.outputs, gradients, states, call.parts)
    if on_path(call):
        _along_samples(call, outs, gradients)
        return
    for out in (operation.outputs[k] for k in outs):
        if len(gradients[out]) > MOST_SOURCES:
            gradients[out] = joined(gradients[out], states[out], ("joined", out))
    passes = _ways_back(call)
    if passes is None:
        totals = {
            k: total_pairs(gradients[operation.outputs[k]], states[operation.outputs[k]])
            for k in outs
        }
        passes = sample_backward(call, totals)
    for number, way in enumerate(passes):
        if (operation.index, way.tensor) in call.parts.closed:
            continue
        if is_empty(call.graph, way.tensor):
            continue
        if way.output in outs and call.has_gradient(way.tensor) and way.tensor in states:
            send(call, way, number, gradients, sent)


def _ways_back(call: Call) -> list[Pass] | None:
    """By the operation's rule; None where it has none, or none for such arguments."""
    if reads_nothing(call):
        return back_past_nothing(call)
    rule = backward_rule(call.name)
    if rule is not None:
        ways = rule(call)
        return None if ways is None else list(ways)
    return pointwise_backward(call) if forward_rule(call.name) is None else None


def _along_samples(call: Call, outs: list[int], gradients: dict[int, Gradient]) -> None:
    outside = {}
    for k in outs:
        out = call.operation.outputs[k]
        foreign = {s: c for s, c in gradients[out].items() if s != _SAMPLES}
        if foreign:
            state = call.states[out]
            outside[k] = total_pairs(foreign, state), total_profile(foreign, state)
    for tensor in path_backward(call, outside):
        gradients.setdefault(tensor, {})[_SAMPLES] = _UNSETTLED
    for out in call.operation.outputs:
        call.parts.sample_gradients.pop(out, None)


def _settle(
    tensors: Iterable[int],
    gradients: dict[int, Gradient],
    states: Mapping[int, State],
    parts: CallParts,
) -> None:
    """Measure what came along samples, once all of it has."""
    for tensor in tensors:
        held = gradients.get(tensor, {})
        if held.get(_SAMPLES) is _UNSETTLED:
            gradient = parts.sample_gradients[tensor]
            powers = marginal_powers(gradient.double().square().numpy())
            held[_SAMPLES] = Component(moments_under(gradient, states[tensor]), profile=powers)
