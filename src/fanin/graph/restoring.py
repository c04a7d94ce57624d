"""Hand a model back as it was found: the context in which everything that runs a model runs it."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass
class _Content:
    """The values of one tensor that a forward pass may overwrite in place."""

    tensor: torch.Tensor
    copy: torch.Tensor | None  # None where there are no values to keep (meta) or none can change
    version: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "_Content":
        # Meta and fake tensors have no values that a call could change.
        bare = tensor.is_meta or type(tensor).__name__ == "FakeTensor"
        copied = None if bare else tensor.detach().clone()
        return cls(tensor, copied, tensor._version)

    def restore(self) -> None:
        # Only what has changed is written: a write would break a graph that the caller still
        # holds. Batch norm writes its statistics without counting a version, hence ``equal``.
        if self.copy is None:
            return
        if self.tensor._version != self.version or not torch.equal(self.tensor, self.copy):
            with torch.no_grad():
                if self.tensor.shape != self.copy.shape:  # an observer that grew with what it saw
                    self.tensor.resize_(self.copy.shape)
                self.tensor.detach().copy_(self.copy)


class _Snapshot:
    """All of a model that one forward and backward pass may change, weights themselves aside."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = list(model.modules())
        # Shallow copies of the namespaces bring back every replaced attribute: the mode, a
        # buffer that forward rebinds, the recomputed ``weight`` of an old-style weight_norm,
        # counters; copies of the containers in them bring back hooks, sub-modules and lists.
        self.namespaces = [dict(vars(module)) for module in self.modules]
        self.containers = [
            (value, value.copy())
            for namespace in self.namespaces
            for value in namespace.values()
            if isinstance(value, dict | list | set)
        ]
        parameters = {id(p): p for module in self.modules for p in module.parameters(recurse=False)}
        self.parameters = [
            (p, p.requires_grad, p.grad, getattr(p, "_backward_hooks", None))
            for p in parameters.values()
        ]
        self.contents = [_Content.of(tensor) for tensor in self._mutable_tensors(parameters)]
        for parameter, _, gradient, _ in self.parameters:
            if gradient is not None:
                # A backward pass inside accumulates into a gradient of its own.
                parameter.grad = None

    def _mutable_tensors(self, parameters: dict[int, nn.Parameter]) -> list[torch.Tensor]:
        """Buffers and plain tensor attributes, each once."""
        found: dict[int, torch.Tensor] = {}
        for module in self.modules:
            for value in [*module.buffers(recurse=False), *vars(module).values()]:
                if not isinstance(value, torch.Tensor) or id(value) in parameters:
                    continue
                # A tensor that is computed from weights (weight_norm's ``weight``) is
                # replaced, not overwritten, and a clone would only cost memory.
                if value.grad_fn is None and not value.is_inference():
                    found[id(value)] = value
        return list(found.values())

    def restore(self) -> None:
        self._reshard()
        for module, namespace in zip(self.modules, self.namespaces, strict=True):
            vars(module).clear()
            vars(module).update(namespace)
        for container, contents in self.containers:
            _refill(container, contents)
        for parameter, requires_grad, gradient, hooks in self.parameters:
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)
            parameter.grad = gradient
            if getattr(parameter, "_backward_hooks", None) is not hooks:
                parameter._backward_hooks = hooks
        for content in self.contents:
            content.restore()

    def _reshard(self) -> None:
        """Have FSDP put back the shards that a forward pass alone leaves gathered."""
        # Put back behind its back, they would not be gathered for the next call.
        fsdp = sys.modules.get("torch.distributed.fsdp")
        if fsdp is None:
            return
        now = [p for module in self.modules for p in module.parameters(recurse=False)]
        known = {id(p) for p, *_ in self.parameters}
        if all(id(p) in known for p in now):
            return
        for module in self.modules:
            if isinstance(module, fsdp.FSDPModule):
                module.reshard()


def _refill(container: Any, contents: Any) -> None:
    if _same_items(container, contents):
        return  # also spares read-only dicts, such as a frozen configuration
    if isinstance(container, list):
        container[:] = contents
        return
    container.clear()
    container.update(contents)


def _same_items(first: Any, second: Any) -> bool:
    # By identity: tensors and arrays in a container have no single truth value to compare.
    def items(container: Any) -> list[Any]:
        pairs = container.items() if isinstance(container, dict) else container
        return [part for pair in pairs for part in (pair if isinstance(pair, tuple) else (pair,))]

    if len(first) != len(second):
        return False
    return all(a is b for a, b in zip(items(first), items(second), strict=False))


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Restore Python's, NumPy's and every initialised torch device's generator."""
    python, numpy = random.getstate(), np.random.get_state()
    accelerator = torch.accelerator.current_accelerator() if _accelerator_in_use() else None
    devices = range(torch.accelerator.device_count()) if accelerator is not None else []
    kind = accelerator.type if accelerator is not None else "cuda"
    with torch.random.fork_rng(devices=list(devices), device_type=kind):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _accelerator_in_use() -> bool:
    # Reading the state of an accelerator that nobody has used would start it.
    cuda = torch.cuda
    return cuda.is_available() and bool(cuda.is_initialized())  # type: ignore[no-untyped-call]


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Leave ``model`` and the random generators afterwards as they were before.

    Restored, also when the body raises or is interrupted: the mode of every module, buffers
    (objects and values), plain attributes, hooks, sub-modules, ``requires_grad``, ``grad`` (the
    same object, the same values), Python's, NumPy's and torch's random states.  Inside, ``grad``
    of every parameter is None.  Values of parameters are *not* copied: what runs inside must not
    write them.

    Args:
        model: any module.

    Examples:
        >>> from torch import nn
        >>> model = nn.BatchNorm1d(3)
        >>> with untouched(model):
        ...     _ = model.eval()
        ...     _ = model.running_mean.fill_(7.0)
        >>> model.training, model.running_mean.tolist()
        (True, [0.0, 0.0, 0.0])
    """
    snapshot = _Snapshot(model)
    grad_enabled = torch.is_grad_enabled()
    try:
        with _same_random_numbers():
            yield
    finally:
        torch.set_grad_enabled(grad_enabled)
        snapshot.restore()
