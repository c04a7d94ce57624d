"""Read the facts that recipes decide on: from the graph, the module types and the tensors' form."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fanin.axes import Axes
from fanin.errors import PlanError
from fanin.graph.graph import Graph, ParameterInfo
from fanin.graph.inventory import named_tensors
from fanin.graph.role import ParameterRole, Role
from fanin.graph.roles import read_roles
from fanin.planning.module_roles import read_module_roles
from fanin.planning.parametrised import (
    Parametrisation,
    ParametrisedWeight,
    parametrised_weights,
)
from fanin.planning.subject import LAYER_WEIGHTS, Circumstances, Subject

_SILENT = (Role.UNKNOWN, Role.UNUSED)


@dataclass(frozen=True)
class ModelReading:
    """Facts about a model, and which names stand for the same or a derived tensor.

    Args:
        circumstances: what recipes see.
        parameters: every parameter name, tied ones included.
        buffers: every buffer name.
        derived: parameters that follow from an effective weight -> that weight.
        undrawable: parameters that no scheme can draw -> why.
    """

    circumstances: Circumstances
    parameters: Mapping[str, ParameterInfo]
    buffers: Mapping[str, ParameterInfo]
    derived: Mapping[str, ParametrisedWeight]
    undrawable: Mapping[str, str]


def read_model(model: nn.Module, graph: Graph | None = None) -> ModelReading:
    """Read the facts about every parameter of a model.

    Args:
        model: any module; its tensors are looked at only to see whether one is constant.
        graph: the recorded operations; without them the module types alone are read.

    Raises:
        PlanError: a lazy module has not seen its first input.
    """
    parameters, buffers = named_tensors_checked(model)
    weights = parametrised_weights(model)
    by_module = read_module_roles(model)
    by_use = read_roles(graph) if graph is not None else {}
    owners = _owners(model)
    subjects: dict[str, Subject] = {}
    derived: dict[str, ParametrisedWeight] = {}
    undrawable: dict[str, str] = {}
    aliases: dict[str, list[str]] = {}
    for name, info in parameters.items():
        if info.tied_to is not None:
            aliases.setdefault(info.tied_to, []).append(name)
    for name, info in parameters.items():
        if info.tied_to is not None:
            continue
        tensor, (path, module, local) = owners[name]
        weight = weights.get(name)
        if weight is not None and name in weight.derived:
            derived[name] = weight
            continue
        if weight is not None:
            # A parametrised weight belongs to its layer, not to the list that holds its parts.
            path, local = weight.module, weight.attribute
            module = model.get_submodule(path)
        obstacle = obstacle_to_drawing(tensor)
        if weight is not None and weight.kind is Parametrisation.FIXED:
            obstacle = f"{weight.kind} (register it with use_trivialization=True)"
        if obstacle:
            undrawable[name] = obstacle
        subjects[name] = Subject(
            name=name,
            shape=info.shape,
            dtype=info.dtype,
            role=_role([name, *aliases.get(name, ())], weight, by_use, by_module, info.shape),
            module=path,
            local_name=local,
            type_name=type(module).__name__,
            layer_type=_layer_type(module),
            containers=_containers(model, path),
            settings=_plain(vars(module)),
            constant=None if obstacle else _constant(tensor),
            on_meta=tensor.is_meta,
            frozen=not tensor.requires_grad,
            parametrised=weight,
        )
    circumstances = Circumstances(
        model_type=type(model).__name__,
        subjects=subjects,
        graph=graph,
        config=_config(model),
        block_count=_block_count(model),
    )
    return ModelReading(circumstances, parameters, buffers, derived, undrawable)


def named_tensors_checked(
    model: nn.Module,
) -> tuple[Mapping[str, ParameterInfo], Mapping[str, ParameterInfo]]:
    """Parameters and buffers of a model that has all of its shapes."""
    if not isinstance(model, nn.Module):
        raise PlanError(
            f"{type(model).__name__} is not a torch.nn.Module. Give the model itself, "
            "not its class, its weights or a function."
        )
    lazy = [n for n, p in model.named_parameters() if is_lazy(p)]
    if lazy:
        raise PlanError(
            f"{lazy[0]!r} belongs to a lazy module that has no shape yet. "
            "Call the model once on a batch, then plan."
        )
    parameters, buffers = named_tensors(model)
    return parameters.infos, buffers.infos


_Owner = tuple[torch.Tensor, tuple[str, nn.Module, str]]


def _owners(model: nn.Module) -> dict[str, _Owner]:
    """Parameter name -> its tensor, and the path, module and local name that own it."""
    found: dict[str, _Owner] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for local, tensor in module._parameters.items():
            if tensor is not None:
                found[f"{path}.{local}" if path else local] = tensor, (path, module, local)
    return found


_NO_LAYERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList)


def _layer_type(module: nn.Module) -> str:
    """The nearest class of torch.nn that a module is or derives from; empty for none."""
    for base in type(module).__mro__:
        if base.__module__.startswith("torch.nn.modules.") and base not in _NO_LAYERS:
            # attention's out_proj is a Linear that quantisation must not touch
            return base.__name__.removeprefix("NonDynamicallyQuantizable")
    return ""


def _containers(model: nn.Module, path: str) -> frozenset[str]:
    """Class names of the modules around the one at ``path``."""
    names, module = set(), model
    for part in path.split(".") if path else []:
        names.add(type(module).__name__)
        module = getattr(module, part)
    return frozenset(names)


def obstacle_to_drawing(tensor: torch.Tensor) -> str:
    """Why no scheme can draw a tensor; empty where one can."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_quantized or not tensor.is_floating_point() or tensor.element_size() < 2:
        return f"{kind} tensors are not drawn"
    if tensor.layout != torch.strided:
        return f"tensors of layout {tensor.layout} are not drawn"
    return "" if tensor.numel() else "it has no elements"


def _constant(tensor: torch.Tensor) -> float | None:
    """The value that all elements share; None where they differ or have no memory."""
    if tensor.is_meta or type(tensor).__name__ == "DTensor":
        return None
    data = tensor.detach()
    # Almost every random tensor already differs in its first row: reading on is for constants.
    row = data
    while row.dim() > 1:
        row = row[0]
    first = row.flatten()[0]
    if not bool((row == first).all()) or not bool((data == first).all()):
        return None
    return float(first)


def _role(
    names: list[str],
    weight: ParametrisedWeight | None,
    by_use: Mapping[str, ParameterRole],
    by_module: Mapping[str, ParameterRole],
    shape: tuple[int, ...],
) -> ParameterRole:
    """The role of one tensor, known under several names, by its use, else by its module."""
    name = names[0]
    typed = _typed_role(names if weight is None else [weight.effective], by_module, shape)
    seen = names if weight is None else [name, *weight.derived, weight.effective]
    used = next((by_use[n] for n in seen if n in by_use and by_use[n].role not in _SILENT), None)
    if used is not None:
        axes = used.axes if used.axes is not None and _fits(used.axes, shape) else None
        if axes is None and typed is not None:
            axes = typed.axes
        return replace(used, parameter=name, axes=axes)
    if typed is None:
        return replace(by_use.get(name, ParameterRole(name, Role.UNKNOWN)), parameter=name)
    if by_use:
        unused = ("not used in the recorded call: read off the module's type",)
        typed = replace(typed, evidence=typed.evidence + unused)
    return replace(typed, parameter=name)


def _typed_role(
    names: list[str], by_module: Mapping[str, ParameterRole], shape: tuple[int, ...]
) -> ParameterRole | None:
    """What the module types say; a table that is a layer's weight too is a tied head."""
    found = [by_module[name] for name in names if name in by_module]
    found = [r for r in found if r.axes is None or _fits(r.axes, shape)]
    if not found:
        return None
    matrix = next((r for r in found if r.role in LAYER_WEIGHTS), None)
    if matrix is not None and any(r.role is Role.EMBEDDING for r in found):
        evidence = tuple(line for r in found for line in r.evidence)
        return replace(found[0], role=Role.TIED_HEAD, axes=matrix.axes, evidence=evidence)
    return found[0]


def _fits(axes: Axes, shape: tuple[int, ...]) -> bool:
    try:
        axes.validate(shape)
    except ValueError:
        return False
    return True


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in values.items()
        if not key.startswith("_")
        and (
            isinstance(value, bool | int | float | str)
            or (isinstance(value, tuple) and all(isinstance(v, int) for v in value))
        )
    }


def _config(model: nn.Module) -> dict[str, Any]:
    """Plain settings of the model, and of the ``config`` that transformers' models carry."""
    settings = _plain(vars(model))
    config = getattr(model, "config", None)
    if config is not None and hasattr(config, "__dict__"):
        settings.update(_plain(vars(config)))
    elif isinstance(config, Mapping):
        settings.update(_plain(config))
    return settings


def _block_count(model: nn.Module) -> int:
    """The largest number of modules of one class and one set of shapes in one container."""
    most = 0
    for module in model.modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        kinds: dict[object, int] = {}
        for child in module:
            shapes = tuple((n, tuple(p.shape)) for n, p in child.named_parameters())
            if shapes:
                kind = (type(child), shapes)
                kinds[kind] = kinds.get(kind, 0) + 1
        most = max(most, *kinds.values()) if kinds else most
    return most
