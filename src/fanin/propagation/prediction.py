"""``predict``: the signals of a model from its graph alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from fanin.graph.graph import Graph
from fanin.propagation.backward import walk_backward
from fanin.propagation.call import CallParts
from fanin.propagation.cotangent import Seed, seed_of_direction
from fanin.propagation.layer_rows import layer_rows, root_of
from fanin.propagation.parameters import start_states
from fanin.propagation.quadrature import Array
from fanin.propagation.recurrences import Recurrences, find_recurrences
from fanin.propagation.state import State, measured
from fanin.propagation.tracing import Trace, trace
from fanin.propagation.walk import MOST_KNOWN, walk_forward
from fanin.propagation.weight_draws import WeightDraws
from fanin.signals import ParameterSignal, Signals, TensorSignal


def predict(model: nn.Module, inputs: Any, plan: Mapping[str, Any] | None = None) -> Signals:
    """Mean, RMS, correlation and gradient RMS of every tensor, from the graph alone.

    No batch of data and no training is involved: moments are carried through the operations that
    one call of the model runs. The model may stand on the meta device; otherwise it is called
    once to see which operations run, and left as found. Gradients are those of a random
    direction of unit RMS on the output, or of the model's own loss where it returns one, as in
    ``fanin.measure`` without a target.

    Args:
        model: any module that runs.
        inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments. Of
            numbers only the moments are used; integers (token ids, masks, edges) are read; on
            meta both are taken as typical.
        plan: parameter name → assignment, such as ``fanin.plan`` returns: weights have the mean
            and std it says. Without it, those that the model's tensors have.

    Returns:
        Signals with source "predicted" under the tensor ids of ``fanin.record``. Tensors marked
        ``sampled`` rest on an operation that has no rule and was run on samples.

    Raises:
        DataError: the inputs do not fit the model's signature.
        RecordError: the model raised.
        PlanError: the model is on meta and there is no plan.

    Examples:
        >>> net = nn.Sequential(nn.Linear(512, 512, bias=False), nn.ReLU())
        >>> _ = nn.init.kaiming_normal_(net[0].weight)
        >>> signals = predict(net, torch.randn(64, 512))
        >>> [round(row.activated_rms, 1) for row in signals.layers]
        [1.0]
    """
    return predict_from(trace(model, inputs, weights=plan is None), model, plan)


def predict_from(run: Trace, model: nn.Module, plan: Mapping[str, Any] | None = None) -> Signals:
    """``predict`` from a run that was recorded already, while the weights are still those of it.

    Args:
        run: of this model; without a plan traced with ``weights=True``.
        model: whose weights are read.
        plan: as for ``predict``.

    Raises:
        PlanError: the model is on meta and there is no plan.
    """
    parts = CallParts()
    with torch.inference_mode(mode=False):
        states = start_states(run.graph, model, run.ids, run.inputs, plan, parts)
    for tensor, value in run.constants.items():
        if tensor not in states and tensor not in run.graph.producer:
            states[tensor] = measured(value, keep=value.numel() <= MOST_KNOWN)
    parts.weights = WeightDraws(model, run.ids, plan)
    parts.read_out = run.read_out
    parts.recurrences = _recurrences(run, states, parts)
    walk_forward(run.graph, states, run.constants, parts, run.derived)
    gradients = walk_backward(run.graph, states, _seeds(states, run.outputs), parts)
    return _signals(model, run.graph, run.ids, states, gradients, parts)


def _recurrences(run: Trace, states: Mapping[int, State], parts: CallParts) -> Recurrences:
    # A matrix that is kept meets itself as a drawn one does; kept decays and biases do not.
    alike = {
        tensor
        for tensor, state in states.items()
        if state.is_constant or (state.known is not None and state.known.dim() < 2)
    }
    found = find_recurrences(run.graph, alike)
    if found.loops:
        what = f"loops over {_listed(found.matrices)}, {len(found.loops)} operations"
        parts.note(
            f"{what}: sampled whole, {found.runs} draws of their weights."
            if found.runs
            else f"{what} on {found.numbers:.2g} numbers: too many to sample, so that every step "
            "is predicted as if it met weights of its own."
        )
    return found


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _seeds(states: Mapping[int, State], outputs: Sequence[int]) -> dict[int, Seed]:
    # A tensor that is returned twice counts twice in the loss.
    times = Counter(t for t in outputs if t in states and 0 not in states[t].shape)
    return {t: seed_of_direction(states[t].axes, n) for t, n in times.items()}


def _signals(
    model: nn.Module,
    graph: Graph,
    ids: Mapping[str, int],
    states: Mapping[int, State],
    gradients: Mapping[int, Array],
    parts: CallParts,
) -> Signals:
    tensors = {}
    for tensor, info in graph.tensors.items():
        if tensor not in states or not info.dtype.startswith(("float", "bfloat")):
            continue
        maker = graph.producer.get(tensor)
        name, module = ("input", "") if maker is None else (maker.name, maker.module)
        tensors[tensor] = _tensor_signal(
            tensor, name, module, states[tensor], gradients.get(tensor)
        )
    samples = graph.tensors[graph.inputs[0]].shape[:1] if graph.inputs else ()
    return Signals(
        source="predicted",
        tensors=tensors,
        layers=tuple(layer_rows(graph, ids, states, gradients, tensors)),
        samples=samples[0] if samples else 0,
        notes=tuple(parts.notes),
        parameters=_parameters(model, graph, ids, states, gradients),
        loss_name="cotangent",
    )


def _tensor_signal(
    tensor: int, operation: str, module: str, state: State, gradient: Array | None
) -> TensorSignal:
    if 0 in state.shape:
        return TensorSignal(tensor, operation, module, state.shape, sampled=state.sampled)
    correlation = None
    q = state.second_moment
    if state.axes and state.axes[0] and q > 0:
        # Cosine of two samples: pairs that differ in the first axis alone.
        index = tuple(1 if k < len(state.axes[0]) else 0 for k in range(state.pairs.ndim))
        correlation = float(np.clip(state.pairs[index] / q, -1.0, 1.0))
    return TensorSignal(
        tensor, operation, module, state.shape,
        mean=state.mean,
        rms=float(np.sqrt(max(q, 0.0) + _masked_power(state))),
        std=float(np.sqrt(state.variance)),
        finite=bool(np.isfinite(q)),
        correlation=correlation,
        gradient_rms=root_of(gradient),
        gradient_finite=gradient is None or bool(np.isfinite(gradient.flat[0])),
        sampled=state.sampled,
    )  # fmt: skip


def _masked_power(state: State) -> float:
    """What a mask's "never" adds to E[x²] where it is a finite number such as −10⁴."""
    level = state.blocked_level
    if state.blocked is None or not -_SHOWN < level < 0:
        return 0.0
    return level**2 * float(state.blocked.double().mean())


_SHOWN = 1e30


def _parameters(
    model: nn.Module,
    graph: Graph,
    ids: Mapping[str, int],
    states: Mapping[int, State],
    gradients: Mapping[int, Array],
) -> dict[str, ParameterSignal]:
    found = {}
    for name, parameter in model.named_parameters():
        state = states[ids[name]]
        found[name] = ParameterSignal(
            name,
            tuple(graph.parameters[name].shape),
            mean=state.mean,
            std=float(np.sqrt(state.variance)),
            trained=parameter.requires_grad,
            gradient_rms=root_of(gradients.get(ids[name])),
            used=ids[name] in gradients,
        )
    return found
