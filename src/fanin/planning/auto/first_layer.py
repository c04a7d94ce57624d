"""First layers: matched to the second moment of the data that the model was called on.

Every rule for a weight assumes inputs of second moment 1. Standardised data have it; raw pixels
have 0.1 to 0.3 (0 to 1) or 1e4 (0 to 255). The scheme of a weight that reads an input is then
multiplied by E[x²]^(−½), the mean included, so that all later layers see what their rules assume.
"""

import math
from dataclasses import replace

from fanin.graph.graph import Graph, Operation, TensorKind
from fanin.graph.input_moments import InputMoments
from fanin.graph.vocabulary import COPIES, PERMUTATIONS, RESHAPES
from fanin.planning.auto.operands import operands
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Scaled

NEAR_ONE = 2.0
"""Second moments from 1/2 to 2 are left alone: a factor of at most √2 in size, within what
standardised data show, and what any start allows for."""

SURE = 3.0
"""Standard errors from 1, so that a few large samples of a small batch decide nothing."""

_KEPT = RESHAPES | COPIES | PERMUTATIONS | {"expand", "constant_pad_nd", "unfold", "im2col"}
_FACTORS = {"mul": 1, "mul_": 1, "div": -1, "div_": -1}
_MERGES = {"cat", "stack"}


def matched_to_data(subject: Subject, circumstances: Circumstances, decision: Decision) -> Decision:
    """The decision, its scheme scaled if the subject is a first layer and the data are not unit."""
    if decision.scheme is None or not subject.is_layer_weight or subject.role.norm_after:
        return decision
    moments = data_read_by(subject, circumstances)
    if moments is None:
        return decision
    if not moments.finite or moments.constant:
        what = "constant" if moments.finite else "not finite"
        fact = f"the inputs given are {what}: planned as for data of second moment 1"
        return replace(decision, evidence=(fact, *decision.evidence))
    if not far_from_one(moments):
        return decision
    # Two digits: another batch of the same data then gives the same plan, or nearly.
    factor = float(f"{moments.second_moment**-0.5:.2g}")
    return replace(
        decision,
        scheme=Scaled(decision.scheme, factor),
        reason=f"{decision.reason}; × {factor:g} for inputs of second moment "
        f"{moments.second_moment:.2g}",
        evidence=(
            f"inputs: E[x²] = {moments.second_moment:.4g} ± {moments.standard_error:.2g}, "
            f"mean {moments.mean:.4g}",
            *decision.evidence,
        ),
    )


def far_from_one(moments: InputMoments) -> bool:
    """Whether data are so far from second moment 1 that first layers must make up for it."""
    if not moments.finite or moments.constant:
        return False
    q = moments.second_moment
    # In logarithms: the error is a share of q, so that a small q seems surer than it is. Above a
    # half, one or two samples make up the whole moment.
    share = moments.standard_error / q
    sure = share <= 0.5 and abs(math.log(q)) > SURE * share
    return sure and not 1 / NEAR_ONE <= q <= NEAR_ONE


def advice(circumstances: Circumstances) -> tuple[str, ...]:
    """What inputs that are not standardised do to training, whatever the weights."""
    graph = circumstances.graph
    if graph is None:
        return ()
    found = []
    readers = [s for s in circumstances if s.is_layer_weight and s.role.depth == 1]
    read = {m for s in readers if (m := data_read_by(s, circumstances)) is not None}
    for moments in sorted(read, key=lambda m: -abs(math.log(max(m.second_moment, 1e-300)))):
        if not moments.finite:
            found.append(
                "inputs: the batch given holds NaN or infinite values; first layers are planned as "
                "for data of second moment 1."
            )
        elif far_from_one(moments):
            found.append(
                f"inputs: E[x²] = {moments.second_moment:.2g} with mean {moments.mean:.2g}. First "
                "layers are scaled to it, but a step of SGD in them still moves the signal by "
                f"{moments.second_moment:.2g} times what it would for standardised data: "
                "standardise the inputs."
            )
    return tuple(dict.fromkeys(found))


def data_read_by(subject: Subject, circumstances: Circumstances) -> InputMoments | None:
    """Moments of the data that a weight reads; None where it reads anything but inputs."""
    graph = circumstances.graph
    if graph is None or subject.role.depth != 1:
        return None
    read = [_moments(graph, t) for t in operands(circumstances).get(subject.name, ())]
    known = [m for m in read if m is not None]
    return known[0] if len(known) == 1 else None


def _moments(graph: Graph, tensor: int, factor: float = 1.0) -> InputMoments | None:
    """Moments of an input, or of what views, padding, constant factors and concatenation make."""
    while True:
        if graph.tensors[tensor].kind is TensorKind.INPUT:
            known = graph.input_moments.get(tensor)
            return None if known is None else _times(known, factor)
        operation = graph.producer.get(tensor)
        if operation is None or not operation.inputs:
            return None
        if operation.name in _MERGES:
            return _together(graph, operation, factor)
        if operation.name in _FACTORS and len(operation.inputs) == 1:
            constant = operation.args[1] if len(operation.args) > 1 else None
            if not isinstance(constant, int | float) or constant == 0:
                return None
            factor *= float(constant) ** _FACTORS[operation.name]
        elif operation.name not in _KEPT:
            return None
        tensor = operation.inputs[0]


def _times(moments: InputMoments, factor: float) -> InputMoments:
    return InputMoments(
        moments.mean * factor,
        moments.second_moment * factor**2,
        moments.standard_error * factor**2,
    )


def _together(graph: Graph, operation: Operation, factor: float) -> InputMoments | None:
    """Moments of several inputs side by side, each by its number of elements."""
    parts = [_moments(graph, t, factor) for t in operation.inputs]
    sizes = [math.prod(graph.tensors[t].shape) for t in operation.inputs]
    known = [
        (m, n / max(sum(sizes), 1)) for m, n in zip(parts, sizes, strict=True) if m is not None
    ]
    if len(known) != len(parts):
        return None
    return InputMoments(
        sum(m.mean * share for m, share in known),
        sum(m.second_moment * share for m, share in known),
        math.hypot(*(m.standard_error * share for m, share in known)),
    )
