"""Find the normalisations of a graph: fused operations, and those written out in parts."""

from collections.abc import Mapping

from fanin.graph.graph import Graph, Operation, Ref

_FUSED_EPS_POSITION = {
    "native_layer_norm": 4,
    "native_group_norm": 7,
    "_fused_rms_norm": 3,
    "rms_norm": 3,
    "instance_norm": 7,
}
# Batch norm forgets the scale only when it normalises by the batch's own statistics.
_BATCH_TRAINING_POSITION = {
    "native_batch_norm": 5,
    "cudnn_batch_norm": 5,
    "miopen_batch_norm": 5,
    "_native_batch_norm_legit": 5,
    "_native_batch_norm_legit_functional": 5,
}
_ALWAYS_BATCH = frozenset({"_batch_norm_with_update"})
_SPREAD = frozenset({"rsqrt", "sqrt", "std", "linalg_vector_norm", "norm", "std_mean"})
_KEEPS_SPREAD = frozenset(
    {"add", "clamp_min", "clamp", "maximum", "expand", "view", "_to_copy", "reciprocal"}
    | {"unsqueeze", "expand_as", "alias"}
)
_DEFAULT_EPS = 1e-5


def norm_outputs(graph: Graph) -> Mapping[int, float]:
    """Id of every tensor that a normalisation made -> the ε under its square root.

    An RMSNorm or LayerNorm that is written out in parts ends in a product with (or a division
    by) a root, a standard deviation or a length that was computed from data.
    """
    found: dict[int, float] = {}
    spread: set[int] = set()
    for operation in graph.operations:
        eps = _fused(operation)
        if eps is not None:
            found[operation.outputs[0]] = eps
        elif operation.name in _SPREAD:
            spread.update(v for v in operation.outputs if not graph.tensors[v].of_parameters)
        elif operation.name in _KEEPS_SPREAD and _first(operation) in spread:
            spread.update(operation.outputs)
        elif operation.name in ("mul", "mul_") and len(operation.inputs) == 2:
            if sum(value in spread for value in operation.inputs) == 1:
                found[operation.outputs[0]] = _DEFAULT_EPS
        elif operation.name in ("div", "div_") and len(operation.inputs) == 2:
            over, under = operation.inputs
            if under in spread and over not in spread:
                found[operation.outputs[0]] = _DEFAULT_EPS
    return found


def _fused(operation: Operation) -> float | None:
    if operation.name in _FUSED_EPS_POSITION:
        return _number(operation, _FUSED_EPS_POSITION[operation.name])
    if operation.name in _ALWAYS_BATCH:
        return _DEFAULT_EPS
    position = _BATCH_TRAINING_POSITION.get(operation.name)
    if position is None:
        return None
    if operation.overload == "no_stats":  # (input, weight, bias, training, momentum, eps)
        position = 3
    training = operation.args[position] if len(operation.args) > position else False
    return _DEFAULT_EPS if training is True else None


def _number(operation: Operation, position: int) -> float:
    value = operation.args[position] if len(operation.args) > position else None
    return float(value) if isinstance(value, int | float) else _DEFAULT_EPS


def _first(operation: Operation) -> int:
    first = operation.args[0] if operation.args else None
    return first.tensor if isinstance(first, Ref) else -1
