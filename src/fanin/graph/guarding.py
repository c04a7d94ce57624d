"""Tensors that must not change: each is copied before the first write into its memory."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

from fanin.graph.arguments import parts_of, tensors_in, written_arguments
from fanin.graph.belongings import Content


class Guard:
    """Knows which memories are precious, and gives them their contents back.

    Nothing is copied until something is about to be written, so that guarding a model that
    leaves its weights alone costs no memory.
    """

    def __init__(self) -> None:
        self._precious: dict[int, torch.Tensor] = {}
        self._overwritten: list[Content] = []

    def add(self, tensors: Iterable[torch.Tensor]) -> None:
        """From now on the memory of these is precious."""
        for tensor in tensors:
            if _has_plain_memory(tensor):
                for part in parts_of(tensor):
                    self._precious[part.untyped_storage()._cdata] = part

    def save(self, written: Iterable[torch.Tensor]) -> None:
        """Copy what is precious among the tensors that are about to be written."""
        for tensor in written:
            if _has_plain_memory(tensor):
                kept = self._precious.pop(tensor.untyped_storage()._cdata, None)
                if kept is not None:
                    self._overwritten.append(Content.of(kept))

    def put_back(self) -> None:
        """Undo every write, and release the copies."""
        while self._overwritten:
            self._overwritten[-1].restore()
            self._overwritten.pop()


def _has_plain_memory(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested


@contextmanager
def unwritten(model: nn.Module, inputs: Iterable[torch.Tensor]) -> Iterator[None]:
    """Parameters of a model and inputs have afterwards the values that they have now.

    For runs that nobody records; a ``Recorder`` guards its own.  Buffers are the business of
    ``untouched``.
    """
    guard = Guard()
    guard.add(model.parameters())
    guard.add(inputs)
    try:
        with _Watched(guard):
            yield
    finally:
        guard.put_back()


class _Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells a guard of every write, below autograd."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._guard = guard

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if any(is_traceable_wrapper_subclass(t) for t in tensors_in((args, kwargs))):
            return NotImplemented  # the wrapper computes with its parts, which come back here
        self._guard.save(written_arguments(func, args, kwargs))
        return func(*args, **kwargs)
