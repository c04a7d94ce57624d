"""What a constructor set on purpose, and auto therefore keeps."""

from collections.abc import Mapping

from fanin.graph.graph import Graph
from fanin.graph.role import Role
from fanin.graph.vocabulary import MOVES, word
from fanin.planning.recipe import Decision, leave
from fanin.planning.subject import Circumstances, Subject, once_per_model

_MAY_START_AT_ZERO = {
    Role.RESIDUAL_WRITER,
    Role.ATTENTION_OUT,
    Role.DOWN_PROJECTION,
    Role.HEAD,
    Role.ADAPTER_UP,
    Role.MODULATION,
}


@once_per_model
def shows_intent(circumstances: Circumstances) -> bool:
    """Whether constants in this model can be a choice.

    A model whose layer weights are all constant was blanked, not designed: keeping what one
    finds there would keep it dead.
    """
    return any(s.is_layer_weight and s.constant is None for s in circumstances)


def deliberate_zero(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """Keep a weight that its constructor made zero, at the end of a branch or of the model."""
    if subject.constant != 0 or not shows_intent(circumstances):
        return None
    if not (subject.writes_residual or subject.role.role in _MAY_START_AT_ZERO):
        return None
    return leave(
        f"its constructor's zeros stay: {subject.role.role} that starts closed",
        *subject.role.evidence,
    )


def phase_of_sine(subject: Subject, circumstances: Circumstances) -> bool:
    """Whether a bias turns the phase of a sine whose weight is left to its author.

    sin(ω(Wx + b)) with b = 0 is odd in x, and so is any stack of such layers: it could tell x
    from −x by its sign alone.
    """
    if subject.on_meta or subject.constant == 0:
        return False
    weights = circumstances.of_module(subject.module).values()
    return any(
        w.is_layer_weight and w.role.activation is not None and w.role.activation.name == "sin"
        for w in weights
    )


_FURTHEST = 12  # operations from a bias to the exponential of its rate
_TO_A_DECAY = {"mul", "clamp", "cumsum", "sub", "masked_fill", "where"}
"""Between a time step and the decay over one step, or over a stretch of them."""


def sets_a_time_step(subject: Subject, circumstances: Circumstances) -> bool:
    """Whether a bias is the time step of a state space: softplus(· + b), read by e^(−A·Δ).

    Its constructor spreads it over the time scales that the model is to remember; at 0 all of
    them forget within two steps.
    """
    graph = circumstances.graph
    if graph is None or subject.on_meta or subject.constant is not None:
        return False
    made = list(_results(circumstances).get(subject.name, ()))
    soft = _next(graph, made, {"softplus"}, MOVES | {"add", "clamp"}) if made else []
    return bool(_next(graph, soft, {"exp"}, MOVES | _TO_A_DECAY))


@once_per_model
def _results(circumstances: Circumstances) -> Mapping[str, tuple[int, ...]]:
    """Parameter -> what the operations give that read it; empty without a softplus."""
    graph = circumstances.graph
    found: dict[str, list[int]] = {}
    if graph is None or not any(word(operation) == "softplus" for operation in graph.operations):
        return {}
    for operation in graph.operations:
        read = {n for t in operation.inputs for n in _named(graph, t)}
        for name in read if operation.outputs else ():
            if name not in _named(graph, operation.outputs[0]):
                found.setdefault(name, []).append(operation.outputs[0])
    return {name: tuple(made) for name, made in found.items()}


def _named(graph: Graph, tensor: int) -> tuple[str, ...]:
    info = graph.tensors[tensor]
    return (info.name, *info.of_parameters) if info.name else info.of_parameters


def _next(
    graph: Graph, tensors: list[int], wanted: set[str], passed: frozenset[str] | set[str]
) -> list[int]:
    """What the wanted operations make of these tensors, a few passed operations further on."""
    for _ in range(_FURTHEST):
        readers = [
            op for t in dict.fromkeys(tensors) for op in graph.consumers.get(t, ()) if op.outputs
        ]
        found = [op.outputs[0] for op in readers if word(op) in wanted]
        if found or not readers:
            return found
        tensors = [op.outputs[0] for op in readers if word(op) in passed]
    return []
