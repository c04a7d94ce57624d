"""Which axes a recorded norm takes its statistics over, and where its scale and shift stand."""

from dataclasses import dataclass

from fanin.graph.graph import Operation
from fanin.propagation.call import Call
from fanin.propagation.families.views import reshaped
from fanin.propagation.state import State, constant

ROW_NORMS = ("native_layer_norm", "_fused_rms_norm", "rms_norm")
"""Norms of the last axes: each row has statistics of its own."""
BATCH_NORMS = (
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update",
    "_native_batch_norm_legit_functional", "_batch_norm_no_update",
)  # fmt: skip
"""Norms of channels over all samples and positions."""
_FROZEN = ("_native_batch_norm_legit_no_training", "_batch_norm_no_update")
"""They normalise by running statistics."""
_UPDATING = "_batch_norm_with_update"
"""It normalises by the batch's own, as the others do where their argument 5 says so."""


@dataclass(frozen=True)
class NormSettings:
    """How a norm works.

    Args:
        view: the shape under which the statistics run over whole axes.
        dims: those axes.
        eps: what is added to the power before it is divided by.
        centre: whether the mean is taken off.
        weight_position: of the scale among the arguments.
        bias_position: of the shift.
        parameter_axis: the one axis of scale and shift; None for all of the last ones.
        running: mean and variance that stand for the input's own, in evaluation.
    """

    view: tuple[int, ...]
    dims: list[int]
    eps: float
    centre: bool = True
    weight_position: int = 1
    bias_position: int = 2
    parameter_axis: int | None = 1
    running: tuple[State, State] | None = None

    def parameter(self, call: Call, position: int, default: float) -> State:
        """Scale or shift, with axes of length 1 behind it so that it broadcasts."""
        found = call.optional(position)
        if found is None:
            return constant((), default)
        if self.parameter_axis is None:
            return found
        trailing = len(call.state(0).shape) - 2
        return reshaped(found, (*found.shape, *(1,) * trailing))


def settings_of_norm(call: Call) -> NormSettings:
    """The settings of a layer, RMS, group or batch norm."""
    if call.name in ROW_NORMS:
        return _of_rows(call)
    shape = call.state(0).shape
    if call.name == "native_group_norm":
        groups = int(call.raw(6))
        view = (shape[0], groups, shape[1] // groups, *shape[2:])
        return NormSettings(view, list(range(2, len(view))), float(call.raw(7)))
    return _of_channels(call)


def _of_rows(call: Call) -> NormSettings:
    shape, centre = call.state(0).shape, call.name == "native_layer_norm"
    dims = list(range(len(shape) - len(call.raw(1)), len(shape)))
    eps = call.raw(4 if centre else 3, "eps")
    eps = 1e-6 if eps is None else float(eps)
    return NormSettings(shape, dims, eps, centre, 2, 3, parameter_axis=None)


def _of_channels(call: Call) -> NormSettings:
    shape = call.state(0).shape
    dims = [i for i in range(len(shape)) if i != 1]
    position = 6 if call.name in (*_FROZEN, _UPDATING) else 7
    eps = float(call.raw(position, "eps", call.operation.args[-1]) or 0.0)
    mean, variance = call.optional(3), call.optional(4)
    running = None
    if mean is not None and variance is not None and not takes_own_statistics(call.operation):
        running = mean, variance
    return NormSettings(shape, dims, eps, running=running)


def takes_own_statistics(operation: Operation) -> bool:
    """Whether a batch norm is told to normalise by the batch's own mean and variance."""
    if operation.name == _UPDATING:
        return True
    return operation.name not in _FROZEN and len(operation.args) > 5 and bool(operation.args[5])
