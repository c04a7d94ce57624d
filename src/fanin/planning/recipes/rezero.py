"""rezero: residual gates at zero."""

from fanin.errors import PlanError
from fanin.graph.role import Role
from fanin.planning.auto import decide as auto
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Zeros

_GATES = {Role.GATE, Role.LAYER_SCALE}


def is_gate(subject: Subject) -> bool:
    """A scalar or vector that multiplies a residual branch."""
    return subject.role.role in _GATES and subject.role.kind != "prelu"


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """α = 0 on every residual gate; everything else as auto decides."""
    if not any(is_gate(s) for s in circumstances):
        raise PlanError(
            "recipe 'rezero' sets the gate α of x + α·F(x) to 0, and this model has none. Add an "
            "nn.Parameter that multiplies each branch, or use 'auto'."
        )
    if is_gate(subject):
        return Decision(Zeros(), "residual gate α: 0", subject.role.evidence)
    return auto(subject, circumstances)


RECIPE = Recipe(
    name="rezero",
    summary="Gates α of x + α·F(x) at 0; everything else as auto.",
    paper="Bachlechner et al., ReZero, UAI 2021; De & Smith, SkipInit, NeurIPS 2020",
    docs="Every block starts as the identity, at any depth. Needs the gates in the architecture.",
    decide=decide,
)
