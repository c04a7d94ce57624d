"""``record``: run a model once, hand it back as it was, and return what ran."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fanin.errors import RecordError
from fanin.graph.calling import moved
from fanin.graph.graph import Graph, Operation
from fanin.graph.recorder import Observer, Recorder
from fanin.graph.restoring import untouched


def record(model: nn.Module, inputs: Any) -> Graph:
    """Call ``model`` once and return the operations that ran, with the parameters each one used.

    The model, its mode, buffers, hooks, gradients and the random generators are afterwards as
    they were before, also when the model raises. A model on the meta device is recorded there,
    with the inputs moved to meta: no memory, no arithmetic.

    Args:
        model: any module that runs; compiled modules are recorded uncompiled.
        inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments.

    Raises:
        DataError: the inputs are of another kind or do not fit the signature of forward.
        RecordError: the model raised, or has lazy parameters that have no shape yet.

    Examples:
        >>> graph = record(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), torch.zeros(2, 4))
        >>> [(op.name, op.module) for op in graph.operations]
        [('t', '0'), ('addmm', '0'), ('relu', '1')]
    """
    with recorded(model, inputs) as (recorder, _):
        return recorder.graph


class RunObserver(Protocol):
    """Sees every operation of one run."""

    def start(self, recorder: Recorder) -> None:
        """Learn the ids of parameters and buffers; called before the model runs."""

    def __call__(self, operation: Operation, tensors: tuple[torch.Tensor, ...]) -> None:
        """See one operation and what it returned; as ``Recorder``'s ``observe``."""


@contextmanager
def recorded(
    model: nn.Module, inputs: Any, *observers: RunObserver
) -> Iterator[tuple[Recorder, Any]]:
    """Run a model once under observation; within, its output is alive and can be differentiated.

    Afterwards, also when the model or the block raises, the model, the inputs and the random
    generators are as they were before.

    Args:
        model: any module that runs.
        inputs: as for ``record``.
        observers: each sees every operation, in order.

    Yields:
        The recorder, behind its run, and what the model returned.

    Raises:
        DataError: the inputs are of another kind or do not fit the signature of forward.
        RecordError: the model raised, or cannot be run.
    """
    ready(model)
    with untouched(model), uncompiled():
        recorder = Recorder(model, observe=_all_of(observers))
        for observer in observers:
            observer.start(recorder)
        try:
            yield recorder, recorder.run(on_device_of(model, inputs))
        finally:
            # Behind a backward pass, which needs what the model wrote.
            recorder.put_back()


def _all_of(observers: tuple[RunObserver, ...]) -> Observer | None:
    if len(observers) < 2:
        return observers[0] if observers else None

    def observe(operation: Operation, tensors: tuple[torch.Tensor, ...]) -> None:
        for observer in observers:
            observer(operation, tensors)

    return observe


def ready(model: nn.Module) -> None:
    """Raise RecordError for what cannot be recorded whatever the inputs are."""
    if not isinstance(model, nn.Module):
        raise RecordError(
            f"{type(model).__name__} is not a torch.nn.Module. Pass the module itself."
        )
    lazy = [name for name, parameter in model.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise RecordError(
            f"{lazy[0]!r} and {len(lazy) - 1} more are lazy parameters without a shape. Call the "
            "model once on a batch to give them one, then try again."
        )


def on_device_of(model: nn.Module, inputs: Any) -> Any:
    """The inputs on meta when the model is there; else the inputs themselves."""
    parameters = list(model.parameters())
    if parameters and all(parameter.is_meta for parameter in parameters):
        return moved(inputs, torch.device("meta"))
    return inputs


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled modules as the Python that they were compiled from."""
    # Whoever compiled a module has imported dynamo; importing it for others would cost seconds.
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        # The recorder's hooks fire once more for the wrapper, under its own path: no harm.
        warnings.filterwarnings("ignore", message=".*global hooks on modules.*")
        yield
