"""Write into a model's tensors wholly or not at all."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import nn

from fanin.errors import PlanError


class Transaction:
    """Tensors opened for writing inside ``with`` are as before if the block raises.

    Tensors with memory are copied before the first write to them.  Two kinds need no copy, so that
    a large model needs little more than its own size: those on the meta device, which have nothing
    to lose (new memory is filled and swapped in at the end), and those whose writing cannot fail
    and comes last, when nothing is left that could.  The Parameter objects stay the same ones.
    """

    def __init__(self, model: nn.Module) -> None:
        self._tensors: dict[str, torch.Tensor] = {
            **dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False)),
        }
        self._model = model
        self._copies: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._fresh: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._swapped: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._recurrent: list[nn.RNNBase] = []
        self._tables: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._last: list[tuple[torch.Tensor, Callable[[], None]]] = []

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor as it will be: what was written so far, else what stands in the model."""
        live = self._tensors[name]
        return self._fresh[id(live)][1] if id(live) in self._fresh else live.detach()

    def open(self, name: str) -> torch.Tensor:
        """The tensor to write to, within ``Writable``; tied names give the same one."""
        live = self._tensors[name]
        if live.is_meta:
            if id(live) not in self._fresh:
                fresh = torch.empty_strided(live.shape, live.stride(), dtype=live.dtype)
                self._fresh[id(live)] = (live, fresh)
            return self._fresh[id(live)][1]
        if id(live) not in self._copies:
            self._copies[id(live)] = (live, live.detach().clone())
        return live.detach()

    def is_open(self, name: str) -> bool:
        """Whether it was opened, under this or another name."""
        live = id(self._tensors[name])
        return live in self._copies or live in self._fresh

    def at_last(self, target: torch.Tensor, step: Callable[[], None]) -> None:
        """Write to a tensor with memory when all else is done; ``step`` must be unable to fail."""
        self._last.append((target, step))

    def write(self, name: str, values: torch.Tensor) -> None:
        """Copy values into a tensor."""
        target = self.open(name)
        with Writable(target):
            target.copy_(values)

    def before(self, name: str) -> torch.Tensor | None:
        """The copy that was taken of a tensor; None for one that was not opened."""
        pair = self._copies.get(id(self._tensors[name]))
        return None if pair is None else pair[1]

    def remember(self, table: dict[str, Any]) -> None:
        """Put the entries of a module's table of attributes back if the block raises."""
        self._tables.append((table, dict(table)))

    def still_on_meta(self) -> list[str]:
        """Names of tensors without memory that nothing was written to."""
        return [n for n, t in self._tensors.items() if t.is_meta and id(t) not in self._fresh]

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._roll_back()
            return
        with _interrupts_at_the_end():
            try:
                self._commit()
            except BaseException:
                self._roll_back()
                raise
            for target, step in self._last:
                with Writable(target):
                    step()

    def _commit(self) -> None:
        """Give the tensors that had no memory their new contents."""
        if self._fresh:
            self._recurrent = [m for m in self._model.modules() if isinstance(m, nn.RNNBase)]
        for layer in self._recurrent:
            # Weak references would forbid the swap; the objects that they are to stay the same.
            layer._flat_weight_refs = []
        for live, fresh in self._fresh.values():
            if not isinstance(live, nn.Parameter):
                continue
            new = torch.Tensor._make_subclass(type(live), fresh, live.requires_grad)
            new.__dict__.update(live.__dict__)
            try:
                _swap(live, new)
            except RuntimeError as error:
                raise PlanError(
                    f"a parameter of shape {tuple(live.shape)} on the meta device cannot be given "
                    f"memory in place: {error} Call model.to_empty(device='cpu') first."
                ) from error
            self._swapped.append((live, new))
        for module in self._model.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and id(buffer) in self._fresh:
                    self.remember(module._buffers)
                    module._buffers[name] = self._fresh[id(buffer)][1]
        for layer in self._recurrent:
            layer._init_flat_weights()

    def _roll_back(self) -> None:
        interrupted: KeyboardInterrupt | None = None
        for step in self._steps_back():
            # A second Ctrl-C must not leave half of the model behind: finish, then obey it.
            try:
                step()
            except KeyboardInterrupt as error:
                interrupted = error
                step()
        if interrupted is not None:
            raise interrupted

    def _steps_back(self) -> Iterator[Callable[[], None]]:
        for table, entries in reversed(self._tables):
            yield partial(_put_back_table, table, entries)
        while self._swapped:
            yield partial(_swap, *self._swapped.pop())
        for live, copy in self._copies.values():
            yield partial(_put_back, live, copy)
        for layer in self._recurrent:
            yield layer._init_flat_weights


def _swap(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.utils.swap_tensors(a, b)  # type: ignore[no-untyped-call]


def _put_back_table(table: dict[str, Any], entries: dict[str, Any]) -> None:
    table.clear()
    table.update(entries)


def _put_back(live: torch.Tensor, copy: torch.Tensor) -> None:
    target = live.detach()
    with Writable(target):
        target.copy_(copy)


@contextmanager
def _interrupts_at_the_end() -> Iterator[None]:
    """Ctrl-C is obeyed when the block is done, and not in the middle of it.

    Only the main thread is interrupted by it, and only where Python handles the signal.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[-1])


class Writable:
    """Recording off; inference tensors may only be written in inference mode."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._mode = torch.inference_mode() if tensor.is_inference() else torch.no_grad()

    def __enter__(self) -> None:
        self._mode.__enter__()

    def __exit__(self, *details: Any) -> None:
        self._mode.__exit__(*details)
