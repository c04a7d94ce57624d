"""A layer of a plan: when it ran, and where its branch is added back.

Both are what the recorded graph left in the plan.  Plans made without a graph have none of it; then
the model's order stands.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fanin.graph.role import Place
from fanin.planning.assignment import Assignment

_SHORTCUT_NAME = re.compile(r"(^|[._])(downsample|shortcut|skip)([._]|$)")


@dataclass(frozen=True)
class Layer:
    """One module that holds parameters itself, and what each of them gets."""

    path: str
    assignments: tuple[Assignment, ...]

    @property
    def main(self) -> Assignment:
        """The parameter that the layer is drawn by: its weight, not its bias."""
        return next((a for a in self.assignments if not is_bias(a)), self.assignments[0])

    @property
    def ran(self) -> int | None:
        """Number of the first operation that used it; None where the plan does not know."""
        return min((place.used for place in self._places), default=None)

    @property
    def added(self) -> int | None:
        """Number of the operation that adds its result to the stream; None for none."""
        return max((m.added for m in self._places if m.added is not None), default=None)

    @property
    def on_shortcut(self) -> bool:
        """It projects the stream beside a branch."""
        named = _SHORTCUT_NAME.search(self.path) is not None
        return named or any(place.shortcut for place in self._places)

    @property
    def _places(self) -> list[Place]:
        return [a.place for a in self.assignments if a.place is not None]


def is_bias(assignment: Assignment) -> bool:
    """It is added, not multiplied by."""
    name = assignment.parameter.rpartition(".")[2]
    return name.startswith("bias") or assignment.role.endswith("bias")


def in_order_of_running(layers: Sequence[Layer]) -> list[Layer]:
    """The layers as they ran; one without a number stays behind the one before it."""
    keys, latest = [], -1
    for layer in layers:
        ran = layer.ran
        latest = latest if ran is None else ran
        keys.append(latest)
    return [layers[i] for i in sorted(range(len(layers)), key=lambda i: (keys[i], i))]
