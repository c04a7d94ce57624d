"""What a layer's evidence says of its place: when it ran, and where its branch is added back.

Evidence is written for people, and holds the numbers of the operations in the order of running:
``addmm #57 in 'h.0.attn'``.  Plans made without a graph have none; then the model's order stands.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fanin.planning.assignment import Assignment

_RAN = re.compile(r"#(\d+)")
_ADDED = re.compile(r"#(\d+).* adds its result to the stream")
_SHORTCUT = re.compile(r"projects the stream of the residual")
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
        """Number of the first operation that used it; None where the evidence gives none."""
        # The first number in a parameter's evidence is that of its own use; later ones are of
        # what it meets.  An embedding that is also the head has a line for either use.
        every = "embedding" in self.main.role
        found = []
        for assignment in self.assignments:
            numbers = [int(n) for line in assignment.evidence for n in _RAN.findall(line)]
            found += numbers if every else numbers[:1]
        return min(found, default=None)

    @property
    def added(self) -> int | None:
        """Number of the operation that adds its result to the stream; None for none."""
        lines = (line for a in self.assignments for line in a.evidence)
        return max((int(m[1]) for line in lines if (m := _ADDED.search(line))), default=None)

    @property
    def on_shortcut(self) -> bool:
        """It projects the stream beside a branch."""
        lines = (line for a in self.assignments for line in a.evidence)
        named = _SHORTCUT_NAME.search(self.path) is not None
        return named or any(_SHORTCUT.search(line) for line in lines)


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
