"""What a prediction needs of one run of a model: the graph, and the values that are no guesses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fanin.graph.calling import leaves
from fanin.graph.graph import Graph, Operation
from fanin.graph.recorder import Recorder
from fanin.graph.recording import recorded
from fanin.propagation.lengths import READ_OUT
from fanin.propagation.state import State, measured
from fanin.propagation.walk import MOST_KNOWN

# Parts of a returned mapping or dataclass that repeat inner tensors: not what a loss is taken of.
_NOT_MAIN = ("past_key_values", "hidden_states", "attentions", "cross_attentions", "loss")

_SHOWN_AS_THEY_ARE = ("t", "transpose", "view", "permute", "unsqueeze", "squeeze", "expand",
                      "detach", "alias", "_unsafe_view", "embedding")  # fmt: skip
_DRAWING = ("rand", "bernoulli", "normal", "uniform", "dropout", "empty", "multinomial")


@dataclass(frozen=True)
class Trace:
    """One run as a prediction sees it; it holds nothing of the model itself.

    Args:
        graph: what ran.
        ids: name of every parameter and buffer -> the id of its value at the start.
        inputs: ids and tensors of the inputs.
        outputs: ids of the tensors that a loss would be taken of, as often as they are returned.
        constants: values that rest neither on weights nor on numbers of the batch.
        derived: moments of what is computed from weights alone, such as a normalised weight;
            empty where a plan says what the weights are.
        read_out: integers that the model read out of what its weights made, by tensor.
    """

    graph: Graph
    ids: Mapping[str, int]
    inputs: tuple[tuple[int, torch.Tensor], ...]
    outputs: tuple[int, ...]
    constants: Mapping[int, torch.Tensor]
    derived: Mapping[int, State]
    read_out: Mapping[int, int]


def trace(model: nn.Module, inputs: Any, *, weights: bool) -> Trace:
    """Run a model once and keep what a prediction needs; the model is left as found.

    Args:
        model: any module, also on the meta device.
        inputs: as for ``fanin.predict``.
        weights: the weights that stand there count, not those of a plan.

    Raises:
        DataError: the inputs do not fit the model's signature.
        RecordError: the model raised.
    """
    tracer = Tracer(model, weights=weights)
    with torch.inference_mode(mode=False), recorded(model, inputs, tracer) as (_, output):
        tracer.finish(output)
    return tracer.trace


class Tracer:
    """Watches a run for values that rest neither on weights nor on numbers of the batch.

    What goes wrong while it watches is told when its trace is asked for, so that whoever else
    watches the same run is not disturbed.
    """

    def __init__(self, model: nn.Module, *, weights: bool) -> None:
        self._parameters = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        self._weights = weights
        self._values: dict[int, torch.Tensor] = {}
        self._derived: dict[int, State] = {}
        self._read_out: dict[int, int] = {}
        self._integers: dict[int, torch.Tensor] = {}
        self._varying: set[int] = set()
        self._of_batch: set[int] = set()
        self._of_weights: set[int] = set()
        self._inputs_known = False
        self._trace: Trace | None = None
        self._failed: Exception | None = None

    @property
    def trace(self) -> Trace:
        """What was seen.

        Raises:
            Exception: whatever went wrong on the way.
        """
        if self._failed is not None:
            raise self._failed
        assert self._trace is not None, "finish comes first"
        return self._trace

    def start(self, recorder: Recorder) -> None:
        """Learn which values are weights."""
        self._recorder = recorder
        for name in self._parameters:
            self._varying.add(recorder.ids[name])
            self._of_weights.add(recorder.ids[name])

    def __call__(self, operation: Operation, tensors: tuple[torch.Tensor, ...]) -> None:
        """See one operation and what it returned."""
        if self._failed is None:
            try:
                self._see(operation, tensors)
            except Exception as error:
                self._failed = error

    def finish(self, output: Any) -> None:
        """The model has returned ``output``, and still holds what it wrote."""
        if self._failed is not None:
            return
        try:
            recorder = self._recorder
            for tensor, value in recorder.constant_tensors:
                if not value.is_meta:
                    self._values[tensor] = value.detach().clone()
            graph = recorder.graph
            self._trace = Trace(
                graph=graph,
                ids=dict(recorder.ids),
                inputs=tuple(recorder.input_tensors),
                outputs=tuple(_main_outputs(output, graph)),
                constants=self._values,
                derived=self._derived,
                read_out=self._read_out,
            )
        except Exception as error:
            self._failed = error

    def _see(self, operation: Operation, tensors: tuple[torch.Tensor, ...]) -> None:
        if not self._inputs_known:
            self._inputs_known = True
            for value, tensor in self._recorder.input_tensors:
                self._of_batch.add(value)
                if tensor.is_floating_point():
                    self._varying.add(value)
        if any(value in self._of_batch for value in operation.inputs):
            self._of_batch.update(operation.outputs)
        varying = any(word in operation.name for word in _DRAWING) or any(
            value in self._varying for value in operation.inputs
        )
        if varying:
            self._varying.update(operation.outputs)
            self._keep_integers(operation, tensors)
            if self._weights and operation.inputs:
                self._keep_weights(operation, tensors)
            return
        for out, tensor in zip(operation.outputs, tensors, strict=False):
            if not tensor.is_meta and tensor.numel() <= MOST_KNOWN:
                # A copy: the model may write into this memory later.
                self._values[out] = tensor.detach().clone()

    def _keep_integers(self, operation: Operation, tensors: tuple[torch.Tensor, ...]) -> None:
        """Single integers, and those that the model turns into Python's own."""
        for out, tensor in zip(operation.outputs, tensors, strict=False):
            if tensor.dtype == torch.int64 and tensor.numel() == 1 and not tensor.is_meta:
                self._integers[out] = tensor.detach().clone()
        if operation.name == READ_OUT and operation.inputs[0] in self._integers:
            (read,) = operation.inputs
            self._read_out[read] = int(self._integers[read])

    def _keep_weights(self, operation: Operation, tensors: tuple[torch.Tensor, ...]) -> None:
        known, of_batch = self._of_weights, self._of_batch
        if not all(i in known or i not in self._varying for i in operation.inputs):
            return
        # What weights make of token ids is a signal, to be predicted and not to be looked up.
        if any(i in of_batch for i in operation.inputs):
            return
        known.update(operation.outputs)
        if operation.name in _SHOWN_AS_THEY_ARE:
            return
        for out, tensor in zip(operation.outputs, tensors, strict=False):
            if not tensor.is_meta and tensor.is_floating_point():
                self._derived[out] = measured(tensor, keep=False)


def _main_outputs(output: Any, graph: Graph) -> list[int]:
    """Ids of the tensors that a loss would be taken of; the model's own loss if there is one."""
    ids = {id(t): i for t, i in zip(leaves(output), graph.outputs, strict=True)}
    own = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(own, torch.Tensor) and own.is_floating_point() and id(own) in ids:
        return [ids[id(own)]]
    return [ids[id(t)] for t in _main_leaves(output) if id(t) in ids and t.is_floating_point()]


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
