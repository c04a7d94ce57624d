"""A copy of the model with a plan's numbers drawn into it: where data-driven recipes measure."""

import copy
from collections.abc import Callable, Iterator, Mapping
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
    """A copy of a model, drawn by a plan, that may be run and rescaled at will.

    Half-precision tensors are float32 here, as the drawn numbers are before they are rounded;
    float64 stays.  Modes are those of the model; random numbers of its forward, such as dropout's,
    are the same at every run.

    Args:
        plan: what is drawn.
        model: copied; needs as much memory again.
        inputs: the batch.
        seed: of the numbers.

    Raises:
        DataError: the batch is empty, or holds NaN or infinity.
        RecordError: the model cannot be copied.
    """

    def __init__(self, plan: Plan, model: nn.Module, inputs: Any, seed: int) -> None:
        validate_inputs(inputs)
        self.plan, self.seed = plan, seed
        self.inputs = in_float32(inputs)
        self.model = _copied(model)
        with torch.no_grad(), Transaction(self.model) as transaction:
            fill_model(plan, self.model, transaction, seed)
        self.parameters: Mapping[str, nn.Parameter] = dict(self.model.named_parameters())
        self._weights = parametrised_weights(self.model)

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
        for parameter in self.parameters.values():
            parameter.requires_grad_(False)
        with self.running(), torch.inference_mode(mode=False):
            recorder = Recorder(self.model, observe=observe)
            recorder.run(self.inputs)
            return recorder.graph

    @contextmanager
    def running(self) -> Iterator[None]:
        """Fused operations off, so that every product is seen and can be differentiated twice."""
        with ExitStack() as stack:
            stack.enter_context(untouched(self.model))
            stack.enter_context(uncompiled())
            torch.manual_seed(self.seed & (2**63 - 1))
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if any(isinstance(m, nn.RNNBase) for m in self.model.modules()):
                stack.enter_context(_unfused_recurrence())
            yield


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


def _copied(model: nn.Module) -> nn.Module:
    # Tensors that autograd made, such as the weight that an older weight_norm caches, refuse to
    # be copied; their values are computed anew before they are read.
    made: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                made[id(value)] = value.detach().clone()
    try:
        copied = copy.deepcopy(model, made)
    except FaninError:
        raise
    except Exception as error:
        raise RecordError(
            f"{type(model).__name__} cannot be copied to be measured: {type(error).__name__}: "
            f"{error}. Take out what copy.deepcopy refuses, or use a recipe that needs no data."
        ) from error
    for parameter in copied.parameters():
        parameter.grad = None
    widen: Callable[[torch.Tensor], torch.Tensor] = in_float32
    copied._apply(widen)  # type: ignore[no-untyped-call]
    return copied


def in_float32(value: Any) -> Any:
    """The same value with every half-precision tensor in its containers in float32."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in _HALF else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(in_float32(v) for v in value))
    if isinstance(value, tuple | list):
        return type(value)(in_float32(v) for v in value)
    if isinstance(value, Mapping):
        return {key: in_float32(v) for key, v in value.items()}
    return value
