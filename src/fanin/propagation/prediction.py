"""``predict``: the signals of a model from its graph alone."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from fanin.graph.calling import leaves
from fanin.graph.graph import Graph, Operation
from fanin.graph.recorder import Recorder
from fanin.graph.recording import on_device_of, ready, uncompiled
from fanin.graph.restoring import untouched
from fanin.propagation.backward import walk_backward
from fanin.propagation.call import CallParts
from fanin.propagation.layer_rows import layer_rows, root_of
from fanin.propagation.parameters import start_states
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State, measured
from fanin.propagation.walk import MOST_KNOWN, walk_forward
from fanin.signals import ParameterSignal, Signals, TensorSignal

# Parts of a returned mapping or dataclass that repeat inner tensors: not what a loss is taken of.
_NOT_MAIN = ("past_key_values", "hidden_states", "attentions", "cross_attentions", "loss")


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
    ready(model)
    parts = CallParts()
    with untouched(model), uncompiled(), torch.inference_mode(mode=False):
        watcher = _Constants(model, weights=plan is None)
        recorder = Recorder(model, observe=watcher)
        watcher.start(recorder)
        output = recorder.run(on_device_of(model, inputs))
        graph = recorder.graph
        seeds_of = _main_outputs(output, graph)
        for tensor, value in recorder.constant_tensors:
            if not value.is_meta:
                watcher.values[tensor] = value.detach().clone()
        states = start_states(graph, model, recorder.ids, recorder.input_tensors, plan, parts)
    for tensor, value in watcher.values.items():
        if tensor not in states and tensor not in graph.producer:
            states[tensor] = measured(value, keep=value.numel() <= MOST_KNOWN)
    walk_forward(graph, states, watcher.values, parts, watcher.derived)
    gradients = walk_backward(graph, states, _seeds(states, seeds_of), parts)
    return _signals(model, graph, recorder.ids, states, gradients, parts)


class _Constants:
    """Watches a run for values that rest neither on weights nor on numbers of the batch."""

    def __init__(self, model: nn.Module, *, weights: bool) -> None:
        self.values: dict[int, torch.Tensor] = {}
        self.derived: dict[int, State] = {}
        """Moments of what is computed from weights alone: a normalised or a merged weight."""
        self._model, self._weights = model, weights
        self._varying: set[int] = set()
        self._from_weights: set[int] = set()
        self._data_known = False

    def start(self, recorder: Recorder) -> None:
        """Learn which values are weights."""
        self._recorder = recorder
        for name, _ in self._model.named_parameters(remove_duplicate=False):
            self._varying.add(recorder.ids[name])
            self._from_weights.add(recorder.ids[name])

    def __call__(self, operation: Operation, tensors: tuple[torch.Tensor, ...]) -> None:
        if not self._data_known:
            self._data_known = True
            self._varying.update(
                i for i, t in self._recorder.input_tensors if t.is_floating_point()
            )
        varying = any(word in operation.name for word in _DRAWING) or any(
            i in self._varying for i in operation.inputs
        )
        if varying:
            self._varying.update(operation.outputs)
            if self._weights and operation.inputs:
                self._keep_weights(operation, tensors)
            return
        for out, tensor in zip(operation.outputs, tensors, strict=False):
            if not tensor.is_meta and tensor.numel() <= MOST_KNOWN:
                # A copy: the model may write into this memory later.
                self.values[out] = tensor.detach().clone()

    def _keep_weights(self, operation: Operation, tensors: tuple[torch.Tensor, ...]) -> None:
        known = self._from_weights
        if not all(i in known or i not in self._varying for i in operation.inputs):
            return
        known.update(operation.outputs)
        if operation.name in _SHOWN_AS_THEY_ARE:
            return
        for out, tensor in zip(operation.outputs, tensors, strict=False):
            if not tensor.is_meta and tensor.is_floating_point():
                self.derived[out] = measured(tensor, keep=False)


_SHOWN_AS_THEY_ARE = ("t", "transpose", "view", "permute", "unsqueeze", "squeeze", "expand",
                      "detach", "alias", "_unsafe_view", "embedding")  # fmt: skip
_DRAWING = ("rand", "bernoulli", "normal", "uniform", "dropout", "empty", "multinomial")


def _main_outputs(output: Any, graph: Graph) -> list[int]:
    """Ids of the tensors that a loss would be taken of; the model's own loss if there is one."""
    ids = {id(t): i for t, i in zip(leaves(output), graph.outputs, strict=True)}
    own = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(own, torch.Tensor) and own.is_floating_point() and id(own) in ids:
        return [ids[id(own)]]
    found = [ids[id(t)] for t in _main_leaves(output) if id(t) in ids and t.is_floating_point()]
    return list(dict.fromkeys(found))


def _main_leaves(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, Mapping):
        for name, value in output.items():
            if name not in _NOT_MAIN:
                yield from _main_leaves(value)
    elif isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _main_leaves(value)
    else:
        yield from leaves(output)


def _seeds(states: Mapping[int, State], outputs: list[int]) -> dict[int, Array]:
    seeds: dict[int, Array] = {}
    for tensor in outputs:
        if tensor in states:
            pairs = np.zeros_like(states[tensor].pairs)
            pairs.flat[0] = 1.0
            seeds[tensor] = pairs
    return seeds


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
        layers=tuple(layer_rows(graph, ids, states, gradients)),
        samples=samples[0] if samples else 0,
        notes=tuple(parts.notes),
        parameters=_parameters(model, graph, ids, states, gradients),
        loss_name="cotangent",
    )


def _tensor_signal(
    tensor: int, operation: str, module: str, state: State, gradient: Array | None
) -> TensorSignal:
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
