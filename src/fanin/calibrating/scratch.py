"""Other tensors in the place of a model's own, drawn by a plan: where recipes measure."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fanin.errors import FaninError, RecordError
from fanin.filling.applying import fill_model
from fanin.filling.transaction import Transaction
from fanin.graph.graph import Graph
from fanin.graph.recorder import Observer, Recorder
from fanin.graph.recording import uncompiled
from fanin.graph.restoring import untouched
from fanin.measuring.validating import validate_inputs
from fanin.planning.assignment import Assignment, Plan
from fanin.planning.parametrised import Parametrisation, parametrised_weights

_HALF = (torch.float16, torch.bfloat16)
_MAGNITUDES = (Parametrisation.WEIGHT_NORM, Parametrisation.WEIGHT_NORM_HOOK)
_SCALE_FREE = {
    Parametrisation.SPECTRAL_NORM: "spectral_norm divides its scale out",
    Parametrisation.SPECTRAL_NORM_HOOK: "spectral_norm divides its scale out",
    Parametrisation.ORTHOGONAL: "its parametrisation allows orthogonal matrices only",
    Parametrisation.FIXED: "its parametrisation allows orthogonal matrices only",
    Parametrisation.INVERTIBLE: "its parametrisation decides its scale",
}


class Scratch:
    """A model with tensors of its own making in the place of its parameters and buffers.

    They stand there only within ``running``; the user's tensors are never written, and after it,
    however it ends, the model is what it was.  The modules are not copied, since a forward may
    hold on to them.  Half-precision tensors are float32 here, as the drawn numbers are before they
    are rounded; float64 stays.  Modes are those of the model; random numbers of its forward, such
    as dropout's, are the same at every run.

    Args:
        plan: what is drawn.
        model: its weights need twice their memory again while they are drawn, once afterwards.
        inputs: the batch.
        seed: of the numbers.

    Raises:
        DataError: the batch is empty, or holds NaN or infinity.
    """

    def __init__(self, plan: Plan, model: nn.Module, inputs: Any, seed: int) -> None:
        validate_inputs(inputs)
        self.plan, self.model, self.seed = plan, model, seed
        self._weights = parametrised_weights(model)
        self.inputs = in_float32(inputs)
        with torch.no_grad():
            self._tables = _tables_of_copies(model)
            with self._in_place(), Transaction(model) as transaction:
                fill_model(plan, model, transaction, seed)
                self.parameters: Mapping[str, nn.Parameter] = dict(model.named_parameters())

    def fixed(self, name: str) -> str:
        """Why no factor can scale a parameter; empty where one can."""
        weight = self._weights.get(name)
        return "" if weight is None else _SCALE_FREE.get(weight.kind, "")

    def scaled_by(self, name: str) -> str:
        """The parameter that holds a weight's scale: itself, or weight_norm's magnitude."""
        weight = self._weights.get(name)
        if weight is None or weight.kind not in _MAGNITUDES:
            return name
        return weight.derived[0]

    def multiply(self, a: Assignment, factors: torch.Tensor) -> None:
        """Multiply a weight in place by one factor, or by one for each of its output units."""
        holder = self.parameters[self.scaled_by(a.parameter)]
        shape = [1] * holder.dim()
        if factors.numel() > 1:
            shape[a.axes.outputs[0]] = -1
        with torch.no_grad():
            holder.mul_(factors.to(holder).view(shape))

    def per_unit(self, a: Assignment) -> int:
        """How many output units can have factors of their own; 0 where only all together can."""
        if len(a.axes.outputs) != 1 or (a.axes.transposed and a.axes.groups > 1):
            return 0
        axis = a.axes.outputs[0]
        holder = self.parameters[self.scaled_by(a.parameter)]
        return a.shape[axis] if axis < holder.dim() and holder.shape[axis] == a.shape[axis] else 0

    def run(self, observe: Observer | None = None) -> Graph:
        """Run the batch once under the recorder; nothing of it is kept for gradients.

        Raises:
            RecordError: the model raised.
        """
        wanted = {n: p.requires_grad for n, p in self.parameters.items()}
        try:
            for parameter in self.parameters.values():
                parameter.requires_grad_(False)
            with self.running():
                recorder = Recorder(self.model, observe=observe)
                try:
                    recorder.run(self.inputs)
                finally:
                    recorder.put_back()  # what a model writes into its weights or its batch
                return recorder.graph
        except RecordError as error:
            # What the observer says is no fault of the model's code.
            if isinstance(error.__cause__, FaninError):
                raise error.__cause__ from None
            raise
        finally:
            for name, parameter in self.parameters.items():
                parameter.requires_grad_(wanted[name])

    @contextmanager
    def running(self) -> Iterator[None]:
        """The scratch tensors in place, and no fused operations.

        So every product is seen, and can be differentiated twice.
        """
        with ExitStack() as stack:
            stack.enter_context(self._in_place())
            stack.enter_context(untouched(self.model))  # what this run writes into buffers
            stack.enter_context(uncompiled())
            torch.manual_seed(self.seed & (2**63 - 1))
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if any(isinstance(m, nn.RNNBase) for m in self.model.modules()):
                stack.enter_context(_unfused_recurrence())
            yield

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        with untouched(self.model):
            for module, parameters, buffers in self._tables:
                module._parameters.update(parameters)
                module._buffers.update(buffers)
            yield


_Table = tuple[nn.Module, dict[str, nn.Parameter | None], dict[str, torch.Tensor | None]]


def _tables_of_copies(model: nn.Module) -> list[_Table]:
    """Every module with copies of its own parameters and buffers; tied ones stay tied."""
    copies: dict[int, Any] = {}

    def copied(tensor: torch.Tensor | None) -> Any:
        if tensor is None:
            return None
        if id(tensor) not in copies:
            made = in_float32(tensor.detach().clone())
            if isinstance(tensor, nn.Parameter):
                made = nn.Parameter(made, requires_grad=tensor.requires_grad)
            copies[id(tensor)] = made
        return copies[id(tensor)]

    return [
        (
            module,
            {name: copied(tensor) for name, tensor in module._parameters.items()},
            {name: copied(tensor) for name, tensor in module._buffers.items()},
        )
        for module in model.modules()
    ]


@contextmanager
def _unfused_recurrence() -> Iterator[None]:
    """LSTMs and their like run as the operations that they are made of."""
    # Not backends.mkldnn.flags: leaving it writes settings of other hardware, with a warning.
    mkldnn = torch._C._get_mkldnn_enabled()
    cudnn = torch._C._get_cudnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    torch._C._set_cudnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(mkldnn)
        torch._C._set_cudnn_enabled(cudnn)


def in_float32(value: Any) -> Any:
    """The same value with every half-precision tensor in its containers in float32.

    Tensors made in inference mode are copied, so that gradients may pass.
    """
    if isinstance(value, torch.Tensor):
        ordinary = value.clone() if value.is_inference() else value
        return ordinary.float() if value.dtype in _HALF else ordinary
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(in_float32(v) for v in value))
    if isinstance(value, tuple | list):
        return type(value)(in_float32(v) for v in value)
    if isinstance(value, Mapping):
        return {key: in_float32(v) for key, v in value.items()}
    return value
