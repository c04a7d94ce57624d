"""Small questions that several rules ask of a case."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from fanin.axes import Axes, dense_axes
from fanin.checking.case import Case
from fanin.checking.streams import Point, Stream
from fanin.graph.role import Role
from fanin.signals import LayerSignal

_TABLES = (Role.EMBEDDING, Role.POSITION_TABLE, Role.TOKEN)
_SMALL = (Role.NORM_SCALE, Role.NORM_BIAS, Role.LAYER_SCALE, Role.GATE, Role.BIAS)


@dataclass(frozen=True)
class WeightMatrix:
    """A trained weight and which of its axes count units."""

    name: str
    tensor: torch.Tensor
    axes: Axes


def weight_matrices(case: Case) -> Iterator[WeightMatrix]:
    """Trained, finite weights of two or more axes whose rows are units: no tables, no norms."""
    by_module = dict(case.model.named_modules())
    for name, parameter in case.model.named_parameters():
        if parameter.dim() < 2 or not parameter.requires_grad or not parameter.numel():
            continue
        if not parameter.is_floating_point() or not case.signals.parameters[name].finite:
            continue
        role = case.roles.get(name)
        owner = by_module.get(name.rpartition(".")[0])
        if role is not None and role.role in (*_TABLES, *_SMALL):
            continue
        if isinstance(owner, torch.nn.Embedding | torch.nn.EmbeddingBag):
            continue
        yield WeightMatrix(name, parameter.detach(), _axes(case, name, parameter, owner))


def _axes(case: Case, name: str, parameter: torch.Tensor, owner: torch.nn.Module | None) -> Axes:
    role = case.roles.get(name)
    if role is not None and role.axes is not None and role.axes.outputs:
        return role.axes
    if getattr(owner, "transposed", False) and parameter.dim() > 2:
        receptive = tuple(range(2, parameter.dim()))
        return Axes(outputs=1, inputs=0, receptive=receptive, transposed=True)
    return dense_axes(parameter.shape)


def reached_by_batch(case: Case, parameter: str) -> bool:
    """Whether some operation that uses the parameter made a value with elements in it."""
    if case.graph is None:
        return False
    sizes = [
        torch.Size(case.graph.tensors[output].shape).numel()
        for operation in case.graph.operations
        if any(parameter in case.graph.tensors[v].of_parameters for v in operation.inputs)
        for output in operation.outputs
    ]
    return bool(sizes) and all(sizes)


def last_features(stream: Stream) -> Point | None:
    """The last hidden point that still has all positions.

    In models over tokens that is the last (samples, positions, features): behind it one token is
    picked, whose likeness over samples says little.
    """
    points = stream.points
    tokens = [p for p in points if len(p.signal.shape) == 3]
    chosen = tokens or list(points)
    return chosen[-1] if chosen else None


def multiplies(case: Case, tensor: int) -> bool:
    """Whether the tensor goes into a product with other data: it is a gate."""
    assert case.graph is not None
    return any(
        reader.name in ("mul", "mul_") and len(set(reader.inputs)) > 1
        for reader in case.graph.consumers.get(tensor, ())
    )


def affected(layers: list[LayerSignal], total: int) -> str:
    """``in 3 of 12 layers``, for messages."""
    return f"in {len(layers)} of {total} layers"
