"""Parameters that the recorded call did not use, read as the like ones beside them.

Of a list of experts a call runs those that its tokens choose.  The others are built alike and
stand in the same ``ModuleList`` or ``ModuleDict``: what one of them is for, all of them are for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fanin.graph.graph import Graph
from fanin.graph.role import ParameterRole, Role

_LISTS = frozenset(
    (
        "torch.nn.modules.container.ModuleList",
        "torch.nn.modules.container.ModuleDict",
    )
)
"""Their children are alternatives or repeats; those of a Sequential follow each other."""


def read_siblings(graph: Graph, roles: Mapping[str, ParameterRole]) -> dict[str, ParameterRole]:
    """Roles of the unused parameters that have a used sibling, with the sibling's name."""
    children: dict[str, list[str]] = {}
    for path in graph.modules:
        children.setdefault(path.rpartition(".")[0], []).append(path)
    found: dict[str, ParameterRole] = {}
    for name, role in roles.items():
        if role.role is not Role.UNUSED:
            continue
        sibling = _sibling(graph, roles, children, name)
        if sibling is None:
            continue
        like = roles[sibling]
        evidence = (f"read as {sibling}, which stands beside it in one list", *role.evidence)
        found[name] = replace(like, parameter=name, evidence=evidence, from_name=True)
    return found


def _sibling(
    graph: Graph,
    roles: Mapping[str, ParameterRole],
    children: Mapping[str, Sequence[str]],
    name: str,
) -> str | None:
    parts = name.split(".")
    for place in range(len(parts) - 1, 0, -1):
        owner, child = ".".join(parts[: place - 1]), ".".join(parts[:place])
        rest = ".".join(parts[place:])
        module, parent = graph.modules.get(child), graph.modules.get(owner)
        if module is None or parent is None:
            continue
        if not _LISTS & {parent.qualified_name, *parent.base_names}:
            continue
        for path in children[owner]:
            like = f"{path}.{rest}"
            used = like in roles and roles[like].role is not Role.UNUSED
            alike = graph.modules[path].qualified_name == module.qualified_name
            if used and alike and graph.parameters[like].shape == graph.parameters[name].shape:
                return like
    return None
