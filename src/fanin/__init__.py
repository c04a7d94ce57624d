"""fanin plans, fills, checks and compares the initial weights of any PyTorch model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> module that defines it.  Resolved on first use (PEP 562), so that `import fanin`
# costs next to nothing beside `import torch`.
_HOMES = {
    "plan": "fanin.planning",
    "Plan": "fanin.planning",
    "Assignment": "fanin.planning",
    "RECIPES": "fanin.planning",
    "apply": "fanin.filling",
    "initialize": "fanin.filling",
    "adopt": "fanin.filling",
    "Ledger": "fanin.filling",
    "Entry": "fanin.filling",
    "record": "fanin.graph",
    "Graph": "fanin.graph",
    "Axes": "fanin.axes",
    "predict": "fanin.propagation",
    "measure": "fanin.measuring",
    "Signals": "fanin.signals",
    "check": "fanin.checking",
    "Diagnosis": "fanin.checking",
    "Finding": "fanin.checking",
    "RULES": "fanin.checking",
    "compare": "fanin.comparing",
    "Study": "fanin.comparing",
    "SCHEMES": "fanin.schemes",
    "FaninError": "fanin.errors",
}
_SUBMODULES = ("init", "schemes", "recipes", "errors")

if TYPE_CHECKING:
    from fanin import errors as errors
    from fanin import init as init
    from fanin import recipes as recipes
    from fanin import schemes as schemes
    from fanin.axes import Axes as Axes
    from fanin.checking import RULES as RULES
    from fanin.checking import Diagnosis as Diagnosis
    from fanin.checking import Finding as Finding
    from fanin.checking import check as check
    from fanin.comparing import Study as Study
    from fanin.comparing import compare as compare
    from fanin.errors import FaninError as FaninError
    from fanin.filling import Entry as Entry
    from fanin.filling import Ledger as Ledger
    from fanin.filling import adopt as adopt
    from fanin.filling import apply as apply
    from fanin.filling import initialize as initialize
    from fanin.graph import Graph as Graph
    from fanin.graph import record as record
    from fanin.measuring import measure as measure
    from fanin.planning import RECIPES as RECIPES
    from fanin.planning import Assignment as Assignment
    from fanin.planning import Plan as Plan
    from fanin.planning import plan as plan
    from fanin.propagation import predict as predict
    from fanin.schemes import SCHEMES as SCHEMES
    from fanin.signals import Signals as Signals

__all__ = [*_HOMES, *_SUBMODULES, "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"fanin.{name}")
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fanin' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
