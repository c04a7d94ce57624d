"""Read the role of every parameter off a recorded graph."""

from collections.abc import Mapping
from dataclasses import replace

from fanin.axes import Axes
from fanin.graph.evidence import Facts
from fanin.graph.graph import Graph
from fanin.graph.lesser_roles import read_lesser
from fanin.graph.role import ParameterRole, Place, Role
from fanin.graph.siblings import read_siblings
from fanin.graph.use import Part
from fanin.graph.weight_roles import read_weight


def read_roles(graph: Graph) -> Mapping[str, ParameterRole]:
    """Role, axes, activation and place of every parameter, by how the graph uses it.

    Args:
        graph: from ``record``.

    Returns:
        One entry for the first name of every tensor; names in ``tied_to`` share it.

    Examples:
        >>> import torch
        >>> from fanin.graph import record
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU())
        >>> role = read_roles(record(model, torch.zeros(2, 4)))["0.weight"]
        >>> role.kind, role.activation.name, role.axes.fans((8, 4)).fan_in
        ('linear', 'gelu', 4.0)
    """
    facts = Facts(graph)
    roles: dict[str, ParameterRole] = {}
    for name, info in graph.parameters.items():
        if info.tied_to is not None:
            continue
        uses = facts.uses.get(name, [])
        if not uses:
            roles[name] = _unused(facts, name)
        elif any(use.part is Part.WEIGHT for use in uses):
            roles[name] = read_weight(facts, name, uses)
        else:
            roles[name] = read_lesser(facts, name, uses)
    roles |= read_siblings(graph, roles)
    # A bias comes apart as its weight does: packed q/k/v, gates of an LSTM.
    for name, role in roles.items():
        found = _with_blocks_of_weight(facts, role, roles, graph)
        roles[name] = replace(found, place=_place(facts, name))
    return roles


def _place(facts: Facts, name: str) -> Place | None:
    uses = facts.uses.get(name)
    if not uses:
        return None
    writer = facts.writers.get(name)
    return Place(
        used=min(use.operation.index for use in uses),
        added=writer.operation.index if writer is not None else None,
        shortcut=name in facts.shortcuts,
    )


def _unused(facts: Facts, name: str) -> ParameterRole:
    readers = facts.readers(name)
    if readers:
        evidence = f"read by {', '.join(readers[:3])}, whose result meets no signal"
    else:
        evidence = "no operation of the recorded call read it"
    return ParameterRole(name, Role.UNUSED, kind="unused", evidence=(evidence,))


def _with_blocks_of_weight(
    facts: Facts, role: ParameterRole, roles: Mapping[str, ParameterRole], graph: Graph
) -> ParameterRole:
    if role.role not in (Role.BIAS, Role.RECURRENT_BIAS) or role.axes is None:
        return role
    shape = graph.parameters[role.parameter].shape
    for weight in facts.weights_beside(role.parameter):
        partner = roles.get(weight)
        if partner is None or partner.axes is None or not partner.axes.block_sizes:
            continue
        if len(shape) == 1 and sum(partner.axes.block_sizes) == shape[0]:
            axes = Axes(outputs=0, block_sizes=partner.axes.block_sizes)
            return replace(role, axes=axes, block_names=partner.block_names)
    return role
