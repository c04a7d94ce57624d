"""One recorded operation with the states of its arguments, as the rules see it."""

from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fanin.graph.graph import Graph, Operation, Ref
from fanin.propagation.nearness import NONE, Near
from fanin.propagation.quadrature import Array
from fanin.propagation.recurrences import Recurrences
from fanin.propagation.state import State, constant
from fanin.propagation.weight_draws import WeightDraws

if TYPE_CHECKING:
    from fanin.propagation.row_strength import Stream

Rows = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def functional_name(name: str) -> str:
    """``add_`` -> ``add``: the operation that writes elsewhere and computes the same."""
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


CANNOT_RUN = (RuntimeError, TypeError, IndexError, ValueError)
"""What operations raise on other numbers than they were recorded with: another dtype, device or
number of them. ATen's own checks raise all of these (NotImplementedError is a RuntimeError), and
any of them leaves the operation to another rule, or to samples."""

_OTHERWISE_CALLED = {
    ("pow_", "Scalar"): "Tensor_Scalar",
    ("pow_", "Tensor"): "Tensor_Tensor",
    ("float_power_", "Scalar"): "Tensor_Scalar",
    ("float_power_", "Tensor"): "Tensor_Tensor",
    ("floor_divide_", "Tensor"): "default",
    ("transpose_", "default"): "int",
}
"""In-place overloads whose functional twin bears another name: pow.Scalar raises a number."""


@lru_cache(maxsize=4096)
def resolve(name: str, overload: str) -> Any | None:
    """The recorded operation as a callable that does not write in place; None if unknown."""
    for candidate in (functional_name(name), name):
        packet = getattr(torch.ops.aten, candidate, None) or _elsewhere(candidate)
        if packet is None:
            continue
        changed = _OTHERWISE_CALLED.get((name, overload)) if candidate != name else None
        found = getattr(packet, changed or overload or "default", None)
        if found is not None:
            return found
    return None


def _elsewhere(name: str) -> Any | None:
    """An operation of another namespace: torchvision's, or one that the user registered."""
    for full in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = full.partition("::")
        if rest.split(".")[0] == name and namespace != "aten":
            return getattr(getattr(torch.ops, namespace), name, None)
    return None


class Call:
    """An operation, its arguments, and what is known of every tensor that it reads and makes."""

    def __init__(
        self, graph: Graph, operation: Operation, states: Mapping[int, State], parts: "CallParts"
    ) -> None:
        self.graph = graph
        self.operation = operation
        self.states = states
        self.parts = parts
        self.name = functional_name(operation.name)

    def has_gradient(self, tensor: int) -> bool:
        """Whether gradients reach a tensor of this kind: complex ones have them too."""
        return self.is_float(tensor) or self.kind(tensor).startswith("complex")

    def raw(self, position: int, name: str = "", default: Any = None) -> Any:
        """An argument as recorded, by position or by name."""
        args = self.operation.args
        if position < len(args):
            return args[position]
        return self.operation.kwargs.get(name, default)

    def tensor(self, position: int, name: str = "") -> int | None:
        """Id of a tensor argument; None where the argument is no tensor."""
        value = self.raw(position, name)
        return value.tensor if isinstance(value, Ref) else None

    def state(self, position: int, name: str = "") -> State:
        """State of a tensor argument, or of a number given in its place."""
        value = self.raw(position, name)
        if isinstance(value, Ref):
            return self.states[value.tensor]
        return constant((), float(value))

    def optional(self, position: int, name: str = "") -> State | None:
        """State of a tensor argument that may be missing."""
        value = self.raw(position, name)
        return self.states[value.tensor] if isinstance(value, Ref) else None

    def tensors(self, position: int) -> list[int]:
        """Ids of an argument that is a list of tensors."""
        return [ref.tensor for ref in self.raw(position) if isinstance(ref, Ref)]

    def shape(self, output: int = 0) -> tuple[int, ...]:
        """Shape of an output."""
        return self.graph.tensors[self.operation.outputs[output]].shape

    def nearness(self, position: int) -> Near:
        """Which places of a tensor argument are alike."""
        tensor = self.tensor(position)
        return NONE if tensor is None else self.parts.near.get(tensor, NONE)

    def leave_nearness(self, near: Near, output: int = 0) -> None:
        """Which places of an output are alike."""
        self.parts.near[self.operation.outputs[output]] = near

    def made(self, output: int = 0) -> State:
        """State of an output, once the forward walk has passed."""
        return self.states[self.operation.outputs[output]]

    def kind(self, tensor: int) -> str:
        """Dtype of a tensor."""
        return self.graph.tensors[tensor].dtype

    def is_float(self, tensor: int) -> bool:
        """Whether a tensor holds real numbers, in which gradients are."""
        return self.kind(tensor).startswith(("float", "bfloat"))


class CallParts:
    """What rules leave for the backward walk, by operation: masks drawn, shares counted."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], Any] = {}
        self._same: dict[int, int] = {}
        self.notes: dict[str, None] = {}
        self.covariances: dict[tuple[int, int], Array | None] = {}
        """Of pairs of tensors, under the axes of the first; None for 0."""
        self.near: dict[int, Near] = {}
        """Which places of tensors are alike, by tensor: see ``nearness``."""
        self.samples: dict[int, torch.Tensor] = {}
        """Tensors that are carried as samples, ``(runs, *shape)``: see ``sample_paths``."""
        self.made_of_samples: set[int] = set()
        """Those among them that no rule made."""
        self.sample_gradients: dict[int, torch.Tensor] = {}
        """What the operations behind them send back, run by run."""
        self.streams: dict[int, Stream | None] = {}
        """What a norm reads of a residual stream, by what it reads: see ``row_strength``."""
        self.closed: set[tuple[int, int]] = set()
        """Ways (index of an operation, tensor it reads) whose gradient another has brought."""
        self.alike: dict[int, Rows | None] = {}
        """Which rows of a tensor are one vector in each sample: see ``twins``."""
        self.sent: dict[tuple[int, int], float] = {}
        """Power of the gradient that an operation (by index) sends to a tensor that it reads."""
        self.seeds: dict[int, float] = {}
        """Power of the gradient with which the backward pass starts, by output."""
        self.read_out: Mapping[int, int] = {}
        """Integers that the model read out of its own signals in the recorded run, by tensor."""
        self.drawn: dict[Hashable, int] = {}
        """Key of a base that was drawn from -> the seed."""
        self.weights: WeightDraws | None = None
        """Draws parameters as their schemes do."""
        self.recurrences = Recurrences()
        """Loops that are run on samples whole."""

    def keep(self, operation: Operation, name: str, value: Any) -> None:
        """Hold a value of the forward rule for the backward rule."""
        self._kept[operation.index, name] = value

    def repeat(self, operation: Operation, earlier: Operation) -> None:
        """What was held for the earlier operation holds for this one too."""
        self._same[operation.index] = self._same.get(earlier.index, earlier.index)
        for out, twin in zip(operation.outputs, earlier.outputs, strict=True):
            if twin in self.samples:
                self.samples[out] = self.samples[twin]
            if twin in self.made_of_samples:
                self.made_of_samples.add(out)

    def kept(self, operation: Operation, name: str) -> Any:
        """A value held before."""
        return self._kept.get((self._same.get(operation.index, operation.index), name))

    def note(self, text: str) -> None:
        """Something that the reader of the prediction must know; said once."""
        self.notes.setdefault(text)


def rebuilt_arguments(
    operation: Operation, tensors: Mapping[int, torch.Tensor], device: str = "cpu"
) -> tuple[list[Any], dict[str, Any]]:
    """The recorded arguments with real tensors, dtypes and devices in their places.

    An argument that was on meta or on an accelerator is asked for on ``device`` instead.
    """

    def real(value: Any, key: str = "") -> Any:
        if isinstance(value, Ref):
            return tensors[value.tensor]
        if isinstance(value, tuple):
            return [real(item) for item in value]
        if key == "device" and value is not None:
            return torch.device(device)
        if isinstance(value, str) and value.startswith("torch."):
            return getattr(torch, value.removeprefix("torch."))
        return value

    kwargs = {key: real(value, key) for key, value in operation.kwargs.items()}
    return [real(value) for value in operation.args], kwargs
