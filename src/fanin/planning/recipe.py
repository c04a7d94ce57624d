"""What a recipe is: a function from the facts about a parameter to a decision, with its paper."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from fanin.axes import Axes
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes.scheme import Scheme


@dataclass(frozen=True)
class Decision:
    """What one parameter gets.

    Args:
        scheme: how it is drawn; None leaves the parameter as it is.
        reason: one sentence for a person.
        evidence: the facts behind it.
        axes: other axes than those of the role, such as the blocks of a packed bias.
        zero_rows: rows set to zero after drawing.
    """

    scheme: Scheme | None
    reason: str
    evidence: tuple[str, ...] = ()
    axes: Axes | None = None
    zero_rows: tuple[int, ...] = ()


def leave(reason: str, *evidence: str) -> Decision:
    """The decision to touch nothing."""
    return Decision(None, reason, evidence)


class GraphUse(StrEnum):
    """What a recipe does with the recorded operations."""

    NEEDED = "needed"  # inputs must be given
    USED = "used"  # read where inputs are given; module types tell the rest
    IGNORED = "ignored"


Decide = Callable[[Subject, Circumstances], Decision]


@dataclass(frozen=True)
class Recipe:
    """How a whole model is initialised.

    Args:
        name: its name in ``fanin.RECIPES``.
        summary: one sentence.
        paper: where it is from.
        decide: a parameter and its model -> a decision.
        docs: the text behind ``summary``: rules, formulas, when to use it.
        graph: whether it reads how parameters are used, so that ``inputs`` must be given.
        advise: the model -> sentences about what weights alone cannot do.
    """

    name: str
    summary: str
    paper: str
    decide: Decide
    docs: str = ""
    graph: GraphUse = GraphUse.NEEDED
    advise: Callable[[Circumstances], tuple[str, ...]] = field(default=lambda _: ())
