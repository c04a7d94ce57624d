"""Buffers that the model around a module knows how to write: transformers' ``_init_weights``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from fanin.randomness import Address


def modules_around(model: nn.Module, path: str) -> list[nn.Module]:
    """The modules around the one at ``path``, the nearest first, the model last."""
    parts = path.split(".") if path else []
    return [model.get_submodule(".".join(parts[:count])) for count in reversed(range(len(parts)))]


def initialising_owner(around: list[nn.Module]) -> nn.Module | None:
    """The nearest module around that has an ``_init_weights(module)``."""
    return next((m for m in around if callable(getattr(m, "_init_weights", None))), None)


def filled_by_owner(
    owner: nn.Module, module: nn.Module, path: str, seed: int
) -> dict[str, torch.Tensor] | None:
    """The buffers that ``owner._init_weights(module)`` writes whole; None if it fails.

    It is called twice, over buffers that hold different values: what it writes comes out the
    same both times, and what it leaves alone does not.  Parameters are not written.
    """
    runs = []
    for value in (0, 1):
        found = _run(owner, module, path, seed, value)
        if found is None:
            return None
        runs.append(found)
    first, second = runs
    return {
        name: tensor
        for name, tensor in first.items()
        if tensor.shape == second[name].shape and torch.equal(tensor, second[name])
    }


def _run(
    owner: nn.Module, module: nn.Module, path: str, seed: int, value: int
) -> dict[str, torch.Tensor] | None:
    before = dict(module._buffers)
    initialise: Callable[[nn.Module], object] = owner._init_weights  # type: ignore[assignment]
    try:
        for name, buffer in before.items():
            if buffer is not None and buffer.is_meta:
                module._buffers[name] = torch.full(
                    buffer.shape, value, dtype=buffer.dtype, device="cpu"
                )
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), ParametersUnfilled():
            torch.manual_seed(Address(seed, path).key() & (2**63 - 1))
            initialise(module)
        return {
            name: tensor
            for name, tensor in module._buffers.items()
            if tensor is not None and before.get(name) is not None and not tensor.is_meta
        }
    except (RuntimeError, AttributeError, TypeError, ValueError, NotImplementedError):
        # Code of another library on a module without memory: its failing says that it cannot.
        return None
    finally:
        module._buffers.clear()
        module._buffers.update(before)


class ParametersUnfilled(TorchFunctionMode):
    """Skip what a constructor writes into parameters: only its buffers are wanted.

    Unwritten memory is never touched, so that building a wide layer again costs nothing.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Return the parameter as it is for every operation that would write into it."""
        name = getattr(func, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__")
        if in_place and name != "requires_grad_" and args and isinstance(args[0], nn.Parameter):
            return args[0]
        return func(*args, **(kwargs or {}))
