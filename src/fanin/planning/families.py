"""What recipes of named families ask of a model: width, depth, blocks, and what writes where."""

import re
from collections.abc import Iterable, Mapping

from fanin.axes import Axes
from fanin.graph.graph import Graph, Operation
from fanin.graph.role import Role
from fanin.planning.subject import Circumstances, Subject, once_per_model

INNER_MLP = frozenset({Role.WEIGHT, Role.GATE_PROJECTION, Role.UP_PROJECTION})
"""Roles that the matrices of an MLP before its last one can have."""

_INDEX = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")


def block_number(name: str) -> int | None:
    """The first index in a name: 3 for ``model.layers.3.mlp.weight``; None without one."""
    found = _INDEX.search(name)
    return int(found.group(1)) if found else None


def reference_axes(subject: Subject) -> Axes:
    """The axes as He et al. and the code of ResNets count: k²·C_out, whatever the stride.

    A stride of s leaves 1/s² of those outputs to an input; references leave that aside.
    """
    axes = subject.axes
    return Axes(**{**axes.__dict__, "stride": ()}) if axes.stride and not axes.transposed else axes


def branches_of(subject: Subject, circumstances: Circumstances) -> int:
    """Residual adds on the stream that a parameter writes to; the model's where it writes none."""
    return max(subject.role.residual_branches or circumstances.residual_branches, 1)


@once_per_model
def layers(circumstances: Circumstances, part: str = "") -> float:
    """Number of transformer layers, in the part of the model whose names contain ``part``.

    The number of attention outputs and MLP ends that write to the stream, in blocks.
    """
    blocks = {
        (s.name[: s.name.find(f".{block_number(s.name)}.")], block_number(s.name))
        for s in circumstances
        if s.writes_residual and part in s.name and block_number(s.name) is not None
    }
    if blocks:
        return float(len(blocks))
    return max(circumstances.residual_branches / 2, 1.0)


def in_mlp(subject: Subject, circumstances: Circumstances) -> bool:
    """The parameter is a matrix of a block's MLP, its last one included."""
    role = subject.role
    if role.role in {Role.RESIDUAL_WRITER, Role.DOWN_PROJECTION}:
        return True
    if role.role not in INNER_MLP or block_number(subject.name) is None:
        return False
    return role.depth + 1 in _mlp_ends(circumstances)


@once_per_model
def _mlp_ends(circumstances: Circumstances) -> frozenset[int]:
    """Depths of the last matrices of MLPs."""
    return frozenset(
        s.role.depth
        for s in circumstances
        if s.role.role in {Role.RESIDUAL_WRITER, Role.DOWN_PROJECTION}
    )


@once_per_model
def last_writer(circumstances: Circumstances) -> int:
    """Depth of the last weight that writes to a residual stream; 0 without any."""
    return max((s.role.depth for s in circumstances if s.writes_residual), default=0)


@once_per_model
def width(circumstances: Circumstances) -> int:
    """The width of the residual stream: outputs of what writes to it, else inputs of the head."""
    for subject in circumstances:
        if subject.writes_residual and subject.is_layer_weight:
            return int(subject.fans.fan_out)
    for subject in circumstances:
        if subject.role.role in {Role.HEAD, Role.TIED_HEAD}:
            return int(subject.fans.fan_in)
    number = circumstances.number("hidden_size", "d_model", "n_embd", "dim")
    return (
        int(number) if number else max((s.shape[-1] for s in circumstances if s.shape), default=1)
    )


@once_per_model
def closing_norms(circumstances: Circumstances) -> Mapping[str, Subject]:
    """Scales of the norms that end residual branches -> the branch's last weight."""
    graph = circumstances.graph
    if graph is None:
        return {}
    scales = {s.name for s in circumstances if s.role.role is Role.NORM_SCALE}
    found: dict[str, Subject] = {}
    for subject in circumstances:
        if subject.writes_residual and subject.is_layer_weight and subject.role.norm_after:
            for name in _first_of(graph, users(graph, subject.name), scales):
                found.setdefault(name, subject)
    return found


def users(graph: Graph, parameter: str) -> list[Operation]:
    """Operations that combine a parameter with data."""
    own = {t.id for t in graph.tensors.values() if parameter in (t.name, *t.of_parameters)}
    return [
        op
        for op in graph.operations
        if own & set(op.inputs)
        and any(out not in own for out in op.outputs)
        and any(t not in own for t in op.inputs)
    ]


def _first_of(graph: Graph, start: Iterable[Operation], wanted: set[str]) -> set[str]:
    """The first of the wanted parameters that is met downstream, before the streams join."""
    queue = [out for op in start for out in op.outputs[:1]]
    for _ in range(64):
        if not queue:
            break
        tensor = queue.pop(0)
        for operation in graph.consumers.get(tensor, ()):
            names = {n for t in operation.inputs for n in _names(graph, t)}
            if names & wanted:
                return names & wanted
            if not operation.name.startswith("add"):
                queue += operation.outputs[:1]
    return set()


def _names(graph: Graph, tensor: int) -> tuple[str, ...]:
    info = graph.tensors[tensor]
    return (info.name, *info.of_parameters)
