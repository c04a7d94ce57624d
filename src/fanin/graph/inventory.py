"""What a model consists of before it runs: parameters, buffers, modules, as plain values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fanin.graph.arguments import shape_of
from fanin.graph.graph import ModuleInfo, ParameterInfo
from fanin.graph.identity import Geometry


@dataclass(frozen=True)
class NamedTensors:
    """Tensors by name, tied ones under each of their names, and what they are."""

    tensors: Mapping[str, torch.Tensor]
    infos: Mapping[str, ParameterInfo]


def named_tensors(model: nn.Module) -> tuple[NamedTensors, NamedTensors]:
    """Parameters and buffers of a model."""
    persistent = set(_persistent_buffers(model))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    return (
        NamedTensors(parameters, _infos(parameters, set(parameters))),
        NamedTensors(buffers, _infos(buffers, persistent)),
    )


def _persistent_buffers(model: nn.Module) -> Iterator[str]:
    for path, module in model.named_modules(remove_duplicate=False):
        fleeting = getattr(module, "_non_persistent_buffers_set", ())
        for name, _ in module.named_buffers(recurse=False):
            if name not in fleeting:
                yield f"{path}.{name}" if path else name


def _infos(tensors: Mapping[str, torch.Tensor], persistent: set[str]) -> dict[str, ParameterInfo]:
    infos: dict[str, ParameterInfo] = {}
    first_names: dict[Any, str] = {}
    for name, tensor in tensors.items():
        first = first_names.setdefault(_memory_key(tensor), name)
        infos[name] = ParameterInfo(
            name=name,
            shape=shape_of(tensor),
            dtype=str(tensor.dtype).removeprefix("torch."),
            device=str(tensor.device),
            requires_grad=tensor.requires_grad,
            tied_to=None if first == name else first,
            persistent=name in persistent,
        )
    return infos


def _memory_key(tensor: torch.Tensor) -> Any:
    """Equal for tensors that are written together: one object, or the same elements of memory."""
    try:
        storage = tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return id(tensor)
    if tensor.numel() == 0:
        return id(tensor)
    return storage._cdata, Geometry.of(tensor)


def read_modules(model: nn.Module) -> dict[str, ModuleInfo]:
    """Every module of a model by its first path."""
    return {path: _module_info(path, module) for path, module in model.named_modules()}


def _module_info(path: str, module: nn.Module) -> ModuleInfo:
    bases = [base for base in type(module).__mro__[1:] if base is not object]
    return ModuleInfo(
        path=path,
        type_name=type(module).__name__,
        qualified_name=_qualified(type(module)),
        base_names=tuple(_qualified(base) for base in bases),
        settings={
            key: tuple(value) if isinstance(value, list) else value
            for key, value in vars(module).items()
            if not key.startswith("_") and key != "training" and _is_plain(value)
        },
        training=module.training,
    )


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= 16 and all(_is_plain(item) for item in value)
    return isinstance(value, bool | int | float | str | None)
