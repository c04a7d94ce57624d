"""Hand a model back as it was found: the context in which everything that runs a model runs it."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fanin.graph.belongings import Belongings


class _Snapshot:
    """All of a model that one forward and backward pass may change, values of weights aside."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = list(model.modules())
        parameters = {id(p): p for module in self.modules for p in module.parameters(recurse=False)}
        # A detached alias holds the memory that ``parameter.data = …`` would take away.
        self.parameters = [
            (p, _alias(p), p.requires_grad, p.grad, getattr(p, "_backward_hooks", None))
            for p in parameters.values()
        ]
        self.belongings = Belongings(self.modules, parameters)
        for parameter, _, _, gradient, _ in self.parameters:
            if gradient is not None:
                # A backward pass inside accumulates into a gradient of its own.
                parameter.grad = None

    def restore(self) -> None:
        self._reshard()
        self.belongings.restore()
        for parameter, alias, requires_grad, gradient, hooks in self.parameters:
            if alias is not None and not _shares_memory(parameter, alias):
                parameter.grad = None  # which may be of the other dtype or shape by now
                parameter.data = alias
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)
            parameter.grad = gradient
            if getattr(parameter, "_backward_hooks", None) is not hooks:
                parameter._backward_hooks = hooks

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


def _alias(parameter: nn.Parameter) -> torch.Tensor | None:
    """Another name of a parameter's memory; None for wrappers, which have none of their own."""
    return None if is_traceable_wrapper_subclass(parameter) else parameter.detach()


def _shares_memory(first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.layout != torch.strided or first.is_nested:
        return True
    same = first.untyped_storage()._cdata == second.untyped_storage()._cdata
    return same and (first.dtype, first.shape) == (second.dtype, second.shape)


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
    same object, the same values), the memory that a parameter's ``data`` is, Python's, NumPy's and
    torch's random states and those of generators that the model holds.  Inside, ``grad`` of every
    parameter is None.  Values of parameters are *not* copied here: what writes them in place must
    keep them itself, as the recorder does.

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
