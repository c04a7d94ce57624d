"""Weights whose output is added to a residual stream."""

from fanin.graph.graph import Graph, Operation
from fanin.graph.role import Role
from fanin.planning.auto.gain import squared_gain
from fanin.planning.families import in_mlp
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject, once_per_model
from fanin.schemes import LeCun, VarianceScaling
from fanin.schemes.scheme import Scheme

_ADDS = {"add", "add_", "_unsafe_add"}
_NORMS = {"native_layer_norm", "_fused_rms_norm", "rms_norm", "layer_norm"}
_UNCHANGED = {
    "native_dropout",
    "dropout",
    "view",
    "_unsafe_view",
    "clone",
    "contiguous",
    "_to_copy",
}


def residual_scale(subject: Subject, circumstances: Circumstances) -> tuple[float, str]:
    """The factor on a writer's variance, and why: 1 for weights that write to no stream.

    Pre-norm: 1/N for N branches, so that the stream's second moment about doubles from one end
    to the other, whatever the depth.  Post-norm: DeepNorm's start by weights alone.
    """
    branches = subject.role.residual_branches
    if is_post_norm(circumstances):
        return _post_norm_scale(subject, circumstances)
    if branches == 0:
        return 1.0, ""
    return 1 / branches, f"residual writer, one of {branches}: × {branches}^(−½)"


def _post_norm_scale(subject: Subject, circumstances: Circumstances) -> tuple[float, str]:
    """LN(αx + f) = LN(x + f/α): DeepNorm (Wang et al. 2022) without touching the architecture.

    v, o, fc1 and fc2 × (8M)^(−¼); o and fc2, which write to the stream, further ÷ (2M)^¼.
    """
    layers = max(circumstances.residual_branches / 2, 1.0)
    if subject.writes_residual:
        why = f"post-norm writer, {layers:g} layers: × (8M)^(−¼)(2M)^(−¼)"
        return (8 * layers) ** -0.5 * (2 * layers) ** -0.5, why
    if subject.role.role is Role.VALUE or in_mlp(subject, circumstances):
        return (8 * layers) ** -0.5, f"inside a post-norm branch, {layers:g} layers: × (8M)^(−¼)"
    return 1.0, ""


def inside_residual(subject: Subject, circumstances: Circumstances) -> Decision:
    """A weight of a residual network: unit variance by what its input has been through.

    Behind a norm or an add the input has second moment 1; behind an activation E[φ²].
    """
    role = subject.role
    squared, fact = squared_gain(role.before)
    factor, why = residual_scale(subject, circumstances)
    source = f"reads {role.before.name}: He" if squared != 1 and role.before else "fan_in^(−½)"
    reason = f"{source}; {why}" if why else f"in a residual network: {source}"
    scale = squared * factor
    scheme: Scheme = LeCun() if scale == 1 else VarianceScaling(scale=scale)
    return Decision(scheme, reason, (fact, *role.evidence))


@once_per_model
def is_post_norm(circumstances: Circumstances) -> bool:
    """Whether most residual adds feed a norm and nothing else."""
    graph = circumstances.graph
    if graph is None:
        return False
    adds = [op for op in graph.operations if op.name in _ADDS and _adds_data(graph, op)]
    closed = sum(_readers(graph, op.outputs[0]) <= _NORMS for op in adds if op.outputs)
    return bool(adds) and 2 * closed > len(adds)


def _adds_data(graph: Graph, operation: Operation) -> bool:
    """Both terms are computed, of one shape, and no bias or table."""
    terms = [graph.tensors[t] for t in operation.inputs]
    return (
        len(terms) == 2
        and terms[0].shape == terms[1].shape
        and all(not t.of_parameters and t.kind == "computed" for t in terms)
    )


def _readers(graph: Graph, tensor: int) -> set[str]:
    """Names of the operations that read a value, through copies and dropout."""
    found: set[str] = set()
    for operation in graph.consumers.get(tensor, ()):
        if operation.name in _UNCHANGED and operation.outputs:
            found |= _readers(graph, operation.outputs[0])
        else:
            found.add(operation.name)
    return found or {"output"}
