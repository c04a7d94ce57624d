"""Read the signals of every tensor while the model runs, and of its gradient while it returns."""

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.autograd.graph import get_gradient_edge

from fanin.graph.activation_names import activation_name
from fanin.graph.graph import Operation
from fanin.graph.recorder import Recorder
from fanin.measuring import attention
from fanin.measuring.activations import dead_share, saturated_share
from fanin.measuring.histogram_bins import histogram
from fanin.measuring.statistics import (
    TensorMoments,
    mean_cosine,
    mean_cosine_of_positions,
    moments,
    root_mean_square,
    vectors_of,
)
from fanin.signals import AttentionSignal, Histogram, TensorSignal

# Operations that move elements without changing them: their moments are those of their input.
_SAME_ELEMENTS = frozenset(
    {"view", "_unsafe_view", "t", "transpose", "permute", "clone", "squeeze", "unsqueeze"}
    | {"alias", "detach", "contiguous", "reshape", "_reshape_alias"}
)


@dataclass(frozen=True)
class ActivationShares:
    """What one activation's output shows beside its moments."""

    dead: float | None = None
    observations: int | None = None
    saturated: float | None = None


@dataclass
class _Readings:
    """Everything that was read, by tensor id.

    ``weights`` holds the moments of weights that are computed from parameters: weight norm,
    low-rank sums, casts.
    """

    weights: dict[int, TensorMoments] = field(default_factory=dict)
    tensors: dict[int, TensorSignal] = field(default_factory=dict)
    activations: dict[int, ActivationShares] = field(default_factory=dict)
    histograms: dict[int, Histogram] = field(default_factory=dict)
    gradient_histograms: dict[int, Histogram] = field(default_factory=dict)
    attention: list[AttentionSignal] = field(default_factory=list)


class Watcher:
    """Observes a Recorder: moments at once, gradients by hooks on the autograd nodes.

    The gradient of a value is read where autograd passes it, before the node that made the value
    runs, so that it need not be kept. Values overwritten in place keep a node of their own, and
    so a gradient of their own.

    Args:
        samples: size of the batch.
        histograms: also keep histograms of values and gradients.
    """

    def __init__(self, samples: int, *, histograms: bool = False) -> None:
        self.read = _Readings()
        self._samples = samples
        self._histograms = histograms
        self._recorder: Recorder | None = None
        self._weights: set[int] = set()
        self._lengths: dict[int, torch.Tensor] = {}
        self._channel_axis: dict[int, int] = {}
        self._pending: list[tuple[int, torch.Tensor]] = []
        self._alive: dict[int, weakref.ref[torch.Tensor]] = {}
        self._watched: dict[Any, dict[int, list[int]]] = {}
        self._handles: list[Any] = []

    def start(self, recorder: Recorder) -> None:
        """Tell the ids of parameters and buffers; called before the recorder runs."""
        self._recorder = recorder
        self._weights = set(recorder.ids.values())

    def __call__(self, operation: Operation, tensors: tuple[torch.Tensor, ...]) -> None:
        """Read the outputs of one operation. Runs inside the dispatch, where nothing records."""
        self.settle()
        if operation.inputs and all(value in self._weights for value in operation.inputs):
            self._weights.update(operation.outputs)
            self._read_weights(operation, tensors)
            return
        with torch.no_grad():
            self._read_attention(operation, tensors)
            for value, tensor in zip(operation.outputs, tensors, strict=False):
                self._alive[value] = weakref.ref(tensor)
                self._pending.append((value, tensor))
                if tensor.is_floating_point() and tensor.numel() and not tensor.is_meta:
                    self._read_tensor(operation, value, tensor)

    def _read_weights(self, operation: Operation, tensors: tuple[torch.Tensor, ...]) -> None:
        if operation.name in _SAME_ELEMENTS:
            known = self.read.weights.get(operation.inputs[0])
            if known is not None:
                self.read.weights[operation.outputs[0]] = known
            return
        for value, tensor in zip(operation.outputs, tensors, strict=False):
            if tensor.is_floating_point() and tensor.numel() and not tensor.is_meta:
                with torch.no_grad():
                    self.read.weights[value] = moments(tensor)

    def settle(self) -> None:
        """Hook the outputs of the last operation, which autograd has connected by now."""
        for value, tensor in self._pending:
            if tensor.grad_fn is None:
                continue
            edge = get_gradient_edge(tensor)
            slots = self._watched.get(edge.node)
            if slots is None:
                slots = self._watched[edge.node] = {}
                self._handles.append(edge.node.register_prehook(self._hook(slots)))
            slots.setdefault(edge.output_nr, []).append(value)
        self._pending.clear()

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._watched.clear()
        self._alive.clear()
        self._pending.clear()
        self._lengths.clear()

    def _hook(self, slots: Mapping[int, Sequence[int]]) -> Any:
        def read(gradients: tuple[torch.Tensor | None, ...]) -> None:
            for slot, values in slots.items():
                gradient = gradients[slot] if slot < len(gradients) else None
                self._read_gradient(values, gradient)

        return read

    def _read_gradient(self, values: Sequence[int], gradient: torch.Tensor | None) -> None:
        with torch.no_grad():
            # An undefined gradient is a zero that autograd saved itself the trouble of writing.
            rms, finite = (0.0, True) if gradient is None else root_mean_square(gradient)
            rows = None if gradient is None else vectors_of(gradient)
            sizes = None if rows is None else torch.linalg.vector_norm(rows, dim=1)
            shown = None
            if self._histograms and gradient is not None:
                shown = histogram(gradient)
        for value in values:
            signal = self.read.tensors.get(value)
            if signal is not None:
                lengths = self._lengths.get(value)
                sensitivity = None
                if finite and sizes is not None and lengths is not None:
                    # In double precision: an exploded value times a vanished gradient.
                    sensitivity = float(torch.linalg.vector_norm(lengths * sizes.double()))
                self.read.tensors[value] = replace(
                    signal, gradient_rms=rms, gradient_finite=finite, sensitivity=sensitivity
                )
            if shown is not None:
                self.read.gradient_histograms[value] = shown

    def _read_tensor(self, operation: Operation, value: int, tensor: torch.Tensor) -> None:
        axis = self._axis_of_units(operation, tensor)
        self._channel_axis[value] = axis
        shape = tuple(int(n) for n in tensor.shape)
        known = self.read.tensors.get(operation.inputs[0]) if operation.inputs else None
        if known is not None and operation.name in _SAME_ELEMENTS and _same_size(known, shape):
            signal = replace(
                known,
                tensor=value,
                operation=operation.name,
                module=operation.module,
                shape=shape,
                gradient_rms=None,
                sensitivity=None,
            )
        else:
            found = moments(tensor)
            signal = TensorSignal(
                value,
                operation.name,
                operation.module,
                shape,
                found.mean,
                found.rms,
                found.std,
                found.max_abs,
                found.finite,
                found.zero_share,
            )
        self.read.tensors[value] = replace(
            signal,
            correlation=self._sample_correlation(tensor, signal.finite),
            token_correlation=self._token_correlation(tensor, signal.finite),
        )
        if signal.finite:
            rows = vectors_of(tensor)
            root_mean_squares = torch.linalg.vector_norm(rows, dim=1) / math.sqrt(rows.shape[1])
            self._lengths[value] = root_mean_squares.double()
        self._read_activation(operation, value, tensor, axis)
        if self._histograms:
            shown = histogram(tensor)
            if shown is not None:
                self.read.histograms[value] = shown

    def _sample_correlation(self, tensor: torch.Tensor, finite: bool) -> float | None:
        if not finite or tensor.dim() < 2 or tensor.shape[0] != self._samples or self._samples < 2:
            return None
        return mean_cosine(tensor.flatten(1))

    def _token_correlation(self, tensor: torch.Tensor, finite: bool) -> float | None:
        if not finite or tensor.dim() != 3 or tensor.shape[0] != self._samples:
            return None
        return mean_cosine_of_positions(tensor)

    def _axis_of_units(self, operation: Operation, tensor: torch.Tensor) -> int:
        """The axis that counts units: 1 behind convolutions, the last one elsewhere."""
        if "conv" in operation.name:
            return 1
        for value in operation.inputs:
            known = self.read.tensors.get(value)
            if known is not None and known.shape == tuple(tensor.shape):
                return self._channel_axis.get(value, -1)
        if tensor.dim() >= 4 and operation.name not in _SAME_ELEMENTS and operation.inputs:
            # Pooling and the like change the positions and leave the channels where they are.
            return self._channel_axis.get(operation.inputs[0], -1)
        return -1

    def _read_activation(
        self, operation: Operation, value: int, tensor: torch.Tensor, axis: int
    ) -> None:
        name = activation_name(operation)
        if name is None:
            return
        dead = dead_share(name, tensor, axis)
        self.read.activations[value] = ActivationShares(
            dead[0] if dead else None, dead[1] if dead else None, saturated_share(name, tensor)
        )

    def _read_attention(self, operation: Operation, tensors: tuple[torch.Tensor, ...]) -> None:
        def value_of(ref: Any) -> torch.Tensor | None:
            kept = self._alive.get(getattr(ref, "tensor", -1))
            return kept() if kept is not None else None

        found = attention.read(operation, tensors, value_of)
        if found is not None:
            self.read.attention.append(found)


def _same_size(known: TensorSignal, shape: tuple[int, ...]) -> bool:
    return torch.Size(known.shape).numel() == torch.Size(shape).numel()
