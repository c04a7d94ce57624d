"""``measure``: run a model once forward and once backward, and read its signals."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fanin.errors import RecordError
from fanin.graph.graph import Graph
from fanin.graph.recorder import Recorder
from fanin.graph.recording import ready, recorded
from fanin.graph.role import ParameterRole
from fanin.graph.roles import read_roles
from fanin.measuring.layers import layer_rows
from fanin.measuring.losses import Loss, LossValue, evaluate
from fanin.measuring.statistics import dense, mean_cosine, moments, root_mean_square
from fanin.measuring.validating import batch_size, validate_inputs, validate_target
from fanin.measuring.watching import Watcher
from fanin.propagation.tracing import Tracer
from fanin.signals import AttentionSignal, ParameterSignal, Signals, TensorSignal

_BETWEEN_WEIGHTS_AND_VALUES = frozenset(
    {"view", "_unsafe_view", "expand", "clone", "native_dropout", "_to_copy", "mul", "alias"}
    | {"where", "masked_fill", "transpose", "permute", "unsqueeze", "squeeze", "slice"}
)

_FURTHEST = 12  # operations between the scores of an attention and its softmax: scale, mask, views


@dataclass(frozen=True)
class Measurement:
    """Signals, the graph whose ids they carry, and the roles of its parameters."""

    signals: Signals
    graph: Graph
    roles: Mapping[str, ParameterRole]


def measure(
    model: nn.Module,
    inputs: Any,
    *,
    target: Any = None,
    loss: Loss = None,
    histograms: bool = False,
) -> Signals:
    """Run ``model`` once forward and once backward and return the signals of every tensor.

    The model is left exactly as found, also when it raises: parameters that it writes to itself,
    the mode of each module, buffers (BatchNorm's statistics too), hooks, ``.grad``, and the random
    generators. It runs in the mode that it is in.

    Args:
        model: any module that runs on real tensors.
        inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments.
        target: what the loss compares the output with. The loss follows from it: integers choose
            among the output's classes (cross-entropy; class axis beside the batch, or last as in
            token models, whose targets are not shifted), booleans or 0/1 of the output's shape
            are binary (with logits), floats of the output's shape are regressed (mean squared
            error).
        loss: ``loss(output, target)`` or one of "cross_entropy", "bce", "mse", "l1", "huber".
            Without loss and target the model's own ``.loss`` is used; without that, gradients
            are those of Σ ξ·output for a fixed random ξ of unit RMS, and there is no loss.
        histograms: also keep a histogram of every layer's weight, output and gradient.

    Raises:
        DataError: inputs or target are empty, hold NaN or infinity, or do not fit.
        RecordError: the model raised, or stands on the meta device.
        UnknownNameError: a loss name that does not exist.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        >>> signals = measure(net, torch.randn(16, 4), target=torch.arange(16) % 3)
        >>> [row.activation for row in signals.layers], round(signals.label_entropy, 3)
        (['tanh', 'linear'], 1.095)
    """
    return measured(model, inputs, target=target, loss=loss, histograms=histograms).signals


def measured(
    model: nn.Module,
    inputs: Any,
    *,
    target: Any = None,
    loss: Loss = None,
    histograms: bool = False,
    tracer: Tracer | None = None,
) -> Measurement:
    """``measure``, with the graph and the roles that the signals belong to.

    A ``tracer`` sees the same run, so that a prediction needs none of its own.
    """
    ready(model)
    if any(p.is_meta for p in model.parameters()):
        raise RecordError(
            f"{type(model).__name__} stands on the meta device, where tensors have no values to "
            "measure. Use fanin.predict(model, inputs), or fanin.initialize after to_empty()."
        )
    validate_inputs(inputs)
    validate_target(target)
    samples = batch_size(inputs)
    watcher = Watcher(samples, histograms=histograms)
    observers = (watcher,) if tracer is None else (watcher, tracer)
    with (
        torch.inference_mode(mode=False),
        watcher,
        recorded(model, inputs, *observers) as (recorder, output),
    ):
        watcher.settle()
        with torch.enable_grad():
            value = evaluate(output, target, loss, inputs)
            gradients = _gradients(model, value.value)
        graph = recorder.graph
        if tracer is not None:
            tracer.finish(output)
    parameters = _parameter_signals(model, gradients)
    roles = read_roles(graph)
    tensors = dict(watcher.read.tensors)
    tensors.update(_input_signals(recorder, samples))
    signals = Signals(
        source="measured",
        tensors=tensors,
        layers=layer_rows(model, graph, roles, parameters, watcher, histograms=histograms),
        loss=None if value.name == "cotangent" else float(value.value.detach()),
        classes=value.classes,
        label_entropy=value.label_entropy,
        samples=samples,
        notes=_notes(model, value),
        parameters=parameters,
        attention=_true_attention(graph, watcher.read.attention),
        loss_name=value.name,
        loss_error=value.error,
        labels=value.labels,
        logits_std=_logits_std(value),
    )
    return Measurement(signals, graph, roles)


def _gradients(model: nn.Module, value: torch.Tensor) -> dict[str, torch.Tensor | None]:
    """Gradients of the trained parameters, by name; nothing is left in ``.grad``."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not value.requires_grad or not trained:
        return dict.fromkeys(trained)
    try:
        found = dense(torch.autograd.grad(value, list(trained.values()), allow_unused=True))
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise RecordError(
            f"the backward pass of {type(model).__name__} raised: {said[:400]} Training would "
            "raise the same; mend the model's forward."
        ) from error
    return dict(zip(trained, found, strict=True))


def _parameter_signals(
    model: nn.Module, gradients: Mapping[str, torch.Tensor | None]
) -> dict[str, ParameterSignal]:
    signals = {}
    for name, parameter in model.named_parameters():
        gradient = gradients.get(name)
        rms, finite = (None, True) if gradient is None else root_mean_square(gradient)
        used = gradient is not None if name in gradients else None
        signals[name] = _parameter_signal(name, parameter, rms, finite, used=used)
    return signals


def _parameter_signal(
    name: str,
    parameter: torch.Tensor,
    gradient_rms: float | None = None,
    gradient_finite: bool = True,
    *,
    used: bool | None = None,
) -> ParameterSignal:
    shape = tuple(int(n) for n in parameter.shape)
    if not parameter.is_floating_point() or not parameter.numel() or parameter.is_meta:
        return ParameterSignal(name, shape, trained=parameter.requires_grad, used=used)
    with torch.no_grad():
        found = moments(parameter)
    return ParameterSignal(
        name,
        shape,
        found.mean,
        found.std,
        found.finite,
        parameter.requires_grad,
        gradient_rms,
        gradient_finite,
        used,
    )


def weight_signals(model: nn.Module) -> Signals:
    """Signals of the parameters alone, for a model that is not run."""
    parameters = {name: _parameter_signal(name, p) for name, p in model.named_parameters()}
    return Signals(source="measured", tensors={}, layers=(), parameters=parameters)


def _input_signals(recorder: Recorder, samples: int) -> dict[int, TensorSignal]:
    signals = {}
    for value, tensor in recorder.input_tensors:
        if not tensor.is_floating_point():
            continue
        found = moments(tensor)
        many = tensor.dim() > 1 and tensor.shape[0] == samples > 1
        signals[value] = TensorSignal(
            value,
            "input",
            "",
            tuple(int(n) for n in tensor.shape),
            found.mean,
            found.rms,
            found.std,
            found.max_abs,
            found.finite,
            found.zero_share,
            correlation=mean_cosine(tensor.flatten(1)) if many and found.finite else None,
        )
    return signals


def _true_attention(graph: Graph, found: list[AttentionSignal]) -> tuple[AttentionSignal, ...]:
    """Those softmaxes that weigh values in a batched product; routers and outputs are none."""

    def weighs_values(value: int) -> bool:
        for reader in graph.consumers.get(value, ()):
            if reader.name in ("bmm", "baddbmm", "_scaled_dot_product_attention_math"):
                return True
            passes = reader.name in _BETWEEN_WEIGHTS_AND_VALUES and reader.outputs
            if passes and weighs_values(reader.outputs[0]):
                return True
        return False

    return tuple(
        replace(signal, learned_temperature=_has_learned_temperature(graph, signal.tensor))
        for signal in found
        if graph.producer[signal.tensor].name.startswith("_scaled_dot_product")
        or weighs_values(signal.tensor)
    )


def _has_learned_temperature(graph: Graph, weights: int) -> bool:
    """Whether a parameter scales the logits: their spread is then the author's choice."""
    value = weights
    for _ in range(_FURTHEST):
        maker = graph.producer.get(value)
        if maker is None or maker.name in ("bmm", "baddbmm") or not maker.inputs:
            return False
        if maker.name == "mul" and any(graph.tensors[v].of_parameters for v in maker.inputs):
            return True
        value = maker.inputs[0]
    return False


def _logits_std(value: LossValue) -> float | None:
    if value.logits is None or value.classes is None or value.classes < 2:
        return None
    logits = value.logits.float()
    return float((logits - logits.mean(dim=1, keepdim=True)).square().mean().sqrt())


def _notes(model: nn.Module, value: LossValue) -> tuple[str, ...]:
    notes = []
    if value.name == "cotangent":
        notes.append(
            "no target: gradients are those of a fixed random direction of unit RMS on the output"
        )
    if not model.training:
        notes.append(
            "the model is in eval mode: BatchNorm normalises by its running statistics and "
            "dropout is off; call model.train() first to check the start of training"
        )
    return tuple(notes)
