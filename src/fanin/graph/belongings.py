"""What modules hold beside parameters and sub-modules: tensors, containers, generators, objects."""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

_LARGE = 1000
"""Items of a container that are looked into; a longer one is data, and only its list is kept."""


@dataclass
class Content:
    """The values of one tensor that a forward pass may overwrite in place."""

    tensor: torch.Tensor
    copy: torch.Tensor | None  # None where there are no values to keep (meta) or none can change
    version: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "Content":
        """A copy of a tensor's values."""
        # Meta and fake tensors have no values that a call could change.
        bare = tensor.is_meta or type(tensor).__name__ == "FakeTensor"
        copied = None if bare else tensor.detach().clone()
        return cls(tensor, copied, tensor._version)

    def restore(self) -> None:
        """Write the values back where they have changed."""
        # Only what has changed is written: a write would break a graph that the caller still
        # holds. Batch norm writes its statistics without counting a version, hence ``equal``.
        if self.copy is None:
            return
        if self.tensor._version != self.version or not torch.equal(self.tensor, self.copy):
            with torch.no_grad():
                if self.tensor.shape != self.copy.shape:  # an observer that grew with what it saw
                    self.tensor.resize_(self.copy.shape)
                self.tensor.detach().copy_(self.copy)


class Belongings:
    """Copies of what a call may change in the namespaces of modules, to be written back.

    Namespaces are copied shallowly, containers in them through and through, and tensors, arrays
    and random generators among these by value.  Objects of other classes keep their attributes,
    but are not looked into further: they may lead anywhere.

    Args:
        modules: whose namespaces to keep.
        parameters: ids of tensors that are kept otherwise.
    """

    def __init__(self, modules: Iterable[nn.Module], parameters: Iterable[int]) -> None:
        self._undo: list[Callable[[], None]] = []
        self._seen = set(parameters)
        for module in modules:
            self._keep_namespace(vars(module))
            for value in [*module.buffers(recurse=False), *vars(module).values()]:
                self._keep(value, direct=True)

    def restore(self) -> None:
        """Write back what has changed."""
        for undo in self._undo:
            undo()

    def _keep_namespace(self, namespace: dict[str, Any]) -> None:
        before = dict(namespace)

        def undo() -> None:
            if not _same_items(namespace, before) or list(namespace) != list(before):
                namespace.clear()
                namespace.update(before)

        self._undo.append(undo)

    def _keep(self, value: Any, *, direct: bool = False) -> None:
        if id(value) in self._seen or isinstance(value, _PLAIN):
            return
        self._seen.add(id(value))
        if isinstance(value, torch.Tensor):
            # A tensor that is computed from weights (weight_norm's ``weight``) is replaced, not
            # overwritten, and a clone would only cost memory.
            if value.grad_fn is None and not value.is_inference():
                self._undo.append(Content.of(value).restore)
        elif isinstance(value, dict | list | set | deque):
            contents = value.copy()
            self._undo.append(lambda: _refill(value, contents))
            self._keep_items(value)
        elif isinstance(value, tuple | frozenset):
            self._keep_items(value)
        elif isinstance(value, np.ndarray):
            array = value.copy()
            self._undo.append(lambda: _rewrite(value, array))
        elif isinstance(value, torch.Generator):
            state = value.get_state()
            self._undo.append(lambda: _set_state(value, state))
        elif isinstance(value, np.random.Generator):
            numpy_state = value.bit_generator.state
            self._undo.append(lambda: setattr(value.bit_generator, "state", numpy_state))
        elif isinstance(value, random.Random):
            python_state = value.getstate()
            self._undo.append(lambda: value.setstate(python_state))
        elif direct and isinstance(getattr(value, "__dict__", None), dict):
            self._keep_namespace(vars(value))

    def _keep_items(self, container: Any) -> None:
        if len(container) <= _LARGE:
            for item in container.values() if isinstance(container, dict) else container:
                self._keep(item)


_PLAIN = (
    bool, int, float, complex, str, bytes, type, type(None), nn.Module, nn.Parameter,
    FunctionType, MethodType, ModuleType, torch.dtype, torch.device,
)  # fmt: skip


def _set_state(generator: torch.Generator, state: torch.Tensor) -> None:
    if not torch.equal(generator.get_state(), state):
        generator.set_state(state)


def _rewrite(array: np.ndarray[Any, Any], before: np.ndarray[Any, Any]) -> None:
    if array.shape == before.shape and array.flags.writeable:
        array[...] = before


def _refill(container: Any, contents: Any) -> None:
    if _same_items(container, contents):
        return  # also spares read-only dicts, such as a frozen configuration
    container.clear()
    if isinstance(container, list | deque):
        container.extend(contents)
    else:
        container.update(contents)


def _same_items(first: Any, second: Any) -> bool:
    # By identity: tensors and arrays in a container have no single truth value to compare.
    def items(container: Any) -> Iterator[Any]:
        for pair in container.items() if isinstance(container, dict) else container:
            yield from pair if isinstance(pair, tuple) else (pair,)

    if len(first) != len(second):
        return False
    return all(a is b for a, b in zip(items(first), items(second), strict=False))
