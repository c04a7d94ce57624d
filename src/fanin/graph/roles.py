"""Read the role of every parameter off a recorded graph."""

from collections.abc import Mapping

from fanin.graph.graph import Graph
from fanin.graph.role import ParameterRole, Role


def read_roles(graph: Graph) -> Mapping[str, ParameterRole]:
    """Role of every parameter; the first name of a tied one."""
    return {
        name: ParameterRole(name, Role.UNKNOWN)
        for name, info in graph.parameters.items()
        if info.tied_to is None
    }
