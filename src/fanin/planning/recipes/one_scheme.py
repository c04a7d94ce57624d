"""The recipe that one scheme makes: that scheme on every layer weight."""

from fanin.errors import SchemeError
from fanin.graph.role import Role
from fanin.planning.recipe import Decision, GraphUse, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Normal
from fanin.schemes.scheme import ElementwiseScheme, Scheme


def one_scheme(scheme: Scheme, name: str | None = None) -> Recipe:
    """``scheme`` on every weight that multiplies its input; norm scales 1, biases 0.

    Embeddings and position tables sum over nothing, so that schemes which need a fan or a matrix
    cannot mean them: they get N(0, 1), as PyTorch gives them, and padding rows 0.  Gates,
    LayerScale, learned tokens and parameters whose use is not known stay as constructed.
    """
    label = name or repr(scheme)

    def decide(subject: Subject, circumstances: Circumstances) -> Decision:
        if subject.is_layer_weight or subject.role.role is Role.TIED_HEAD:
            return Decision(scheme, f"{label} on every layer weight", subject.role.evidence)
        if subject.is_table:
            if draws_tables(scheme, subject):
                return Decision(scheme, f"{label} on tables too", subject.role.evidence)
            why = f"table: N(0, 1), because {label} needs inputs that are summed over"
            return Decision(Normal(std=1.0), why, subject.role.evidence)
        return small_parameter(subject, circumstances)

    return Recipe(
        name=label,
        summary=f"{scheme!r} on every layer weight; norm scales 1, biases 0.",
        paper="",
        decide=decide,
        graph=GraphUse.USED,
    )


def draws_tables(scheme: Scheme, subject: Subject) -> bool:
    """Whether a scheme can draw a table: elementwise, with no need of a fan."""
    if not isinstance(scheme, ElementwiseScheme):
        return False
    try:
        scheme.expected(subject.shape, subject.axes)
    except SchemeError:
        return False
    return True
