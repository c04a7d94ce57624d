"""What ``record`` returns: the operations that ran when the model was called once.

Frozen and free of tensors: a graph can be saved, compared and read long after the model is gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from fanin.graph.input_moments import InputMoments


@dataclass(frozen=True)
class Ref:
    """A tensor among an operation's arguments, by id."""

    tensor: int


class TensorKind(StrEnum):
    """Where a tensor of the graph comes from."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    INPUT = "input"
    CONSTANT = "constant"  # made outside the watched operations: torch.tensor([...]) in forward
    COMPUTED = "computed"


@dataclass(frozen=True)
class TensorInfo:
    """One value of the graph.  In-place operations make a new value, so ids are never reused.

    ``of_parameters`` names the parameters that this value is made of alone (a view, transpose,
    cast, split, or a parametrisation's arithmetic on weights); empty once data has entered.
    """

    id: int
    shape: tuple[int, ...]
    dtype: str
    kind: TensorKind
    name: str = ""  # of a parameter or buffer
    of_parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One ATen operation that ran.

    ``name`` is the overload packet without the namespace: ``"addmm"``, ``"convolution"``.
    ``args`` and ``kwargs`` are the arguments with ``Ref`` in the place of every tensor.
    ``inputs`` and ``outputs`` are the ids of all tensors read and made, in order.
    ``module`` is the path of the innermost module that was running (``""`` for the root).
    """

    index: int
    name: str
    overload: str
    module: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class ModuleInfo:
    """One module of the model: its class and its plain settings (``p``, ``eps``, ``stride``)."""

    path: str
    type_name: str
    qualified_name: str  # "torch.nn.modules.linear.Linear"
    base_names: tuple[str, ...]  # qualified names of all base classes, nearest first
    settings: Mapping[str, Any] = field(default_factory=dict)
    training: bool = False


@dataclass(frozen=True)
class ParameterInfo:
    """A parameter or buffer as it stands in the model.

    ``tied_to`` names the first name of the same tensor; None for the first name itself.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    device: str
    requires_grad: bool
    tied_to: str | None = None
    persistent: bool = True


@dataclass(frozen=True)
class Graph:
    """The operations of one call of a model, with the parameters that each one used."""

    model_type: str
    operations: tuple[Operation, ...]
    tensors: Mapping[int, TensorInfo]
    parameters: Mapping[str, ParameterInfo]
    buffers: Mapping[str, ParameterInfo]
    modules: Mapping[str, ModuleInfo]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_moments: Mapping[int, InputMoments] = field(default_factory=dict, compare=False)
    """Input id -> its moments in this call; only of floating-point inputs that held numbers."""

    @cached_property
    def producer(self) -> Mapping[int, Operation]:
        """Tensor id -> the operation that made it."""
        return {out: op for op in self.operations for out in op.outputs}

    @cached_property
    def consumers(self) -> Mapping[int, tuple[Operation, ...]]:
        """Tensor id -> the operations that read it, in order of running."""
        found: dict[int, list[Operation]] = {}
        for op in self.operations:
            for tensor in dict.fromkeys(op.inputs):
                found.setdefault(tensor, []).append(op)
        return {tensor: tuple(ops) for tensor, ops in found.items()}
