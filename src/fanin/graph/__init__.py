"""Run a model once, watch its operations, and read off how each parameter is used."""

from fanin.graph.calling import call
from fanin.graph.graph import (
    Graph,
    ModuleInfo,
    Operation,
    ParameterInfo,
    Ref,
    TensorInfo,
    TensorKind,
)
from fanin.graph.recorder import Recorder
from fanin.graph.recording import record
from fanin.graph.restoring import untouched
from fanin.graph.role import Activation, ParameterRole, Role
from fanin.graph.roles import read_roles

__all__ = [
    "Activation",
    "Graph",
    "ModuleInfo",
    "Operation",
    "ParameterInfo",
    "ParameterRole",
    "Recorder",
    "Ref",
    "Role",
    "TensorInfo",
    "TensorKind",
    "call",
    "read_roles",
    "record",
    "untouched",
]
