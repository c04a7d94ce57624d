"""A plan: for every parameter its scheme, axes, role, the reason and the evidence for it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import torch

from fanin.axes import Axes
from fanin.schemes.scheme import Scheme


class Action(StrEnum):
    """What ``apply`` does with a parameter or buffer."""

    INITIALISE = "initialise"
    KEEP = "keep"  # the user said so
    TIED = "tied"  # the same tensor under another name; drawn there, once
    LEAVE = "leave"  # fanin knows nothing better than what is there


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
        tied_to: for TIED, the name under which the tensor is drawn.
        zero_rows: rows set to zero after drawing (an embedding's padding row).
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


@dataclass(frozen=True)
class Plan(Mapping[str, Assignment]):
    """Parameter name -> Assignment, in the model's order.  Plans are values: edits make new ones."""

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
