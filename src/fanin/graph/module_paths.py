"""Which module is running: the path that every recorded operation carries."""

from types import TracebackType
from typing import Any

from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils.hooks import RemovableHandle


class ModulePaths:
    """While active, ``current`` is the path of the innermost module of ``model`` that runs.

    The hooks are torch's global ones: they come before a module's own hooks, so that a weight
    recomputed in a pre-hook (weight_norm) is counted to its module, and the model's own hook
    tables stay as they are.
    """

    def __init__(self, model: nn.Module) -> None:
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._stack: list[str] = []
        self._handles: list[RemovableHandle] = []

    @property
    def current(self) -> str:
        """Path of the running module; ``""`` for the root or outside of the model."""
        return self._stack[-1] if self._stack else ""

    def _enter(self, module: nn.Module, _: Any) -> None:
        self._stack.append(self._paths.get(id(module), self.current))

    def _leave(self, module: nn.Module, _: Any, __: Any) -> None:
        if self._stack:
            self._stack.pop()

    def __enter__(self) -> "ModulePaths":
        self._handles.append(register_module_forward_pre_hook(self._enter))
        try:
            # always_call: a model may catch an error of one of its parts and go on.
            self._handles.append(register_module_forward_hook(self._leave, always_call=True))
        except BaseException:
            self._handles.pop().remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._stack.clear()
