"""A plan: for every parameter its scheme, axes, role, the reason and the evidence for it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from os import PathLike
from typing import TYPE_CHECKING

import torch

from fanin.axes import Axes
from fanin.graph.role import Place
from fanin.schemes.scheme import Scheme

if TYPE_CHECKING:
    from fanin.planning.plan_diff import PlanDiff


class Action(StrEnum):
    """What ``apply`` does with a parameter or buffer."""

    INITIALISE = "initialise"
    KEEP = "keep"  # the user said so, or it is frozen
    TIED = "tied"  # the same tensor under another name; drawn there, once
    LEAVE = "leave"  # fanin knows nothing better than what is there
    DERIVED = "derived"  # follows from the effective weight: the g of weight_norm


@dataclass(frozen=True)
class Assignment:
    """What one parameter gets, and why.

    Args:
        parameter: its name in the model.
        scheme: how it is drawn; None unless ``action`` is INITIALISE.
        axes: which axis is what.
        role: what the parameter is for, in the words of ``fanin.graph.role.Role``.
        reason: one sentence for a person.
        evidence: the facts behind it, each naming an operation, a module or a number.
        std: the std that the tensor is expected to have; None where nothing is drawn.
        shape: its shape.
        action: what apply does.
        tied_to: for TIED, the name under which the tensor is drawn; for DERIVED, the parameter
            whose draw it follows from.
        zero_rows: rows set to zero after drawing (an embedding's padding row).
        through: path of the effective weight that the draw appears in, for a weight under a
            parametrisation (``weight_norm`` and its like); None for plain parameters.
        place: where in the recorded call it was used; None for a plan made without inputs.
    """

    parameter: str
    scheme: Scheme | None
    axes: Axes
    role: str
    reason: str
    evidence: tuple[str, ...] = ()
    std: float | None = None
    shape: tuple[int, ...] = ()
    action: Action = Action.INITIALISE
    tied_to: str | None = None
    zero_rows: tuple[int, ...] = ()
    through: str | None = None
    place: Place | None = None


@dataclass(frozen=True)
class Plan(Mapping[str, Assignment]):
    """Parameter name -> Assignment, in the model's order.  A value: edits make new ones."""

    recipe: str
    model_type: str
    assignments: Mapping[str, Assignment] = field(default_factory=dict)
    module_function: Callable[[torch.nn.Module], object] | None = None
    """The user's ``f(module)``, run over all modules as ``model.apply`` does; None for schemes."""
    advice: tuple[str, ...] = ()
    """What weights alone cannot do: a learning rate, a norm, a constructor flag."""

    def __getitem__(self, name: str) -> Assignment:
        return self.assignments[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.assignments)

    def __len__(self) -> int:
        return len(self.assignments)

    def __str__(self) -> str:
        """A table in plain text, repeated blocks folded into one row (``×32``)."""
        from fanin.planning.plan_table import plan_table

        return plan_table(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the plan, whole or not at all: YAML to edit and load back, or ``.html`` to read.

        Raises:
            PlanError: a scheme, or the plan itself, is a function of yours and cannot be written.
            OutputError: the file cannot be written; what stood there is untouched.
        """
        from fanin.planning.plan_file import save_plan

        save_plan(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Plan":
        """Read a plan that ``save`` wrote, edited or not.

        Raises:
            PlanError: the file cannot be read or is no plan; the message names the parameter.
        """
        from fanin.planning.plan_file import load_plan

        return load_plan(path)

    def diff(self, other: "Plan") -> "PlanDiff":
        """What differs from ``other``: parameters in one only, schemes, axes, actions.

        Prints as a table; empty (false) where both plans give every tensor the same.
        """
        from fanin.planning.plan_diff import diff_plans

        return diff_plans(self, other)
