"""The arguments of an ATen operation as it is dispatched: tensors in them, what it writes."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fanin.graph.graph import Ref


def is_composite(func: Any) -> bool:
    """Whether an operation is defined as a composition of others on every device."""
    return bool(
        torch._C._dispatch_has_kernel_for_dispatch_key(
            func.name(), torch._C.DispatchKey.CompositeImplicitAutograd
        )
    )


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors among an operation's arguments or results, each once, in order."""
    found: dict[int, torch.Tensor] = {}
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, torch.Tensor):
            found.setdefault(id(item), item)
        elif isinstance(item, list | tuple):
            stack.extend(reversed(item))
        elif isinstance(item, dict):
            stack.extend(reversed(list(item.values())))
    return list(found.values())


def parts_of(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The plain tensors that a wrapper holds (jagged, distributed, quantised); else itself."""
    if not is_traceable_wrapper_subclass(tensor):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    inner = [getattr(tensor, name) for name in names]
    return [part for held in inner if isinstance(held, torch.Tensor) for part in parts_of(held)]


def shape_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """The shape in plain numbers; of a nested tensor the longest extent along each dimension."""
    if tensor.is_nested and tensor.layout is torch.strided:
        sizes = tensor._nested_tensor_size()
        longest = sizes.amax(0).tolist() if sizes.numel() else []
        return (int(sizes.shape[0]), *(int(n) for n in longest))
    return tuple(int(n) for n in tensor.shape)


def written_arguments(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[torch.Tensor]:
    """The tensors that the operation's schema says are written in place."""
    written: list[torch.Tensor] = []
    for position, argument in enumerate(func._schema.arguments):
        alias = argument.alias_info
        if alias is None or not alias.is_write:
            continue
        value = args[position] if position < len(args) else kwargs.get(argument.name)
        written.extend(tensors_in(value))
    return written


def contains(tensors: Iterable[torch.Tensor], tensor: torch.Tensor) -> bool:
    """Whether this very tensor is among them; ``in`` would compare elements."""
    return any(tensor is other for other in tensors)


def plain(value: Any, refs: Mapping[int, int]) -> Any:
    """An argument free of tensors: ``Ref`` for tensors, text for dtypes and devices."""
    if isinstance(value, torch.Tensor):
        return Ref(refs[id(value)])
    if isinstance(value, list | tuple):
        return tuple(plain(item, refs) for item in value)
    if isinstance(value, dict):
        return {key: plain(item, refs) for key, item in value.items()}
    if isinstance(value, bool | int | float | complex | str | None):
        return value
    return str(value)
