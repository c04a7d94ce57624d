"""What a recipe is: a function from the facts about a parameter to a decision, with its paper."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Self

from torch import nn

from fanin.axes import Axes
from fanin.planning.assignment import Plan
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
    MEASURED = "measured"  # a batch must be given: signals are read off it


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


Base = str | Scheme | Recipe | Plan
"""What a data-driven recipe may start from: anything that names a scheme for each parameter."""


class DataRecipe(ABC):
    """A recipe that measures: it starts from the plan of another one and corrects its scales.

    The base recipe decides; its numbers are drawn into tensors that stand in the model's place
    while it runs on the batch; what is measured becomes factors in a new plan
    (``fanin.schemes.Scaled``).  That plan is like any other: it is applied, saved and loaded
    without data.

    Subclasses are frozen dataclasses whose fields are the method's settings, one file each in
    ``fanin.calibrating``; ``base`` is the recipe that they start from.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    docs: ClassVar[str]
    graph: ClassVar[GraphUse] = GraphUse.MEASURED
    base: Base

    @abstractmethod
    def calibrate(
        self, plan: Plan, model: nn.Module, inputs: Any, free: Collection[str], seed: int
    ) -> Plan:
        """The plan of the base recipe, with measured factors.

        Args:
            plan: of the base recipe, overrides and kept tensors in place.
            model: left as it is.
            inputs: the batch.
            free: the parameters that may be scaled: drawn, and named in no override.
            seed: whose numbers are measured with.
        """

    def with_target(self, target: Any, loss: Any) -> Self:
        """This recipe for a task, where it has none yet and can use one."""
        return self

    @property
    def label(self) -> str:
        """Its name, or its value where a setting is not the default."""
        return self.name if repr(self) == f"{type(self).__name__}()" else repr(self)

    def __repr__(self) -> str:
        given = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)  # type: ignore[arg-type]
            if f.repr and getattr(self, f.name) != f.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"
