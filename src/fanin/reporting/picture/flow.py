"""A plan as a flow of blocks, from input to output.

A plan holds no graph.  The flow is read from what it says of each parameter: layers in the order
in which they ran, a residual branch wherever the evidence or the role says that a weight writes
to the stream, and what repeats folded.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fanin.graph.role import Role
from fanin.planning.assignment import Assignment, Plan
from fanin.planning.plan_table import fold_names
from fanin.reporting.picture.layer import Layer, in_order_of_running

WRITERS = frozenset({Role.RESIDUAL_WRITER, Role.ATTENTION_OUT, Role.DOWN_PROJECTION})
"""Roles of the last weight of a branch."""

NORMS = frozenset({Role.NORM_SCALE, Role.NORM_BIAS})
_LONGEST_PATTERN = 12
"""Most items in one repeated pattern: a block of any common network has fewer branches."""


@dataclass(frozen=True)
class Residual:
    """A branch that leaves the stream and is added back; ``shortcut`` stands on the stream."""

    branch: tuple["Item", ...]
    shortcut: tuple["Item", ...] = ()


@dataclass(frozen=True)
class Repeat:
    """Items that follow each other ``count`` times, alike but for numbers in names and std.

    ``rounds`` holds the items of every round; the first is the one that is drawn.
    """

    rounds: tuple[tuple["Item", ...], ...]

    @property
    def count(self) -> int:
        """How often."""
        return len(self.rounds)


Item = Layer | Residual | Repeat


def plan_flow(plan: Plan) -> tuple[Item, ...]:
    """The flow of a plan."""
    return fold_repeats(branched(plan_layers(plan)))


def plan_layers(plan: Plan) -> list[Layer]:
    """One layer per module with parameters of its own, in order."""
    groups: dict[str, list[Assignment]] = {}
    for name, assignment in plan.items():
        groups.setdefault(name.rpartition(".")[0], []).append(assignment)
    return [Layer(path, tuple(found)) for path, found in groups.items()]


def branched(layers: Sequence[Layer]) -> list[Item]:
    """The layers as they ran, with every residual branch gathered into one item."""
    ordered = in_order_of_running(layers)
    items: list[Item] = []
    done = 0
    for place in _writers(ordered):
        if place < done:
            continue  # written beside another branch, and gathered with it
        block = _block_of(ordered, place)
        end = _end_of_branch(ordered, place, block)
        chunk = ordered[done:end]
        inside = [layer for layer in chunk if _within(layer.path, block)]
        items += [layer for layer in chunk if not _within(layer.path, block)]
        if not _starts_with_norm(ordered, block):
            # Norms behind the add, as in BERT, stand on the stream.
            while len(inside) > 1 and _is_norm(inside[0]):
                items.append(inside.pop(0))
        beside = _shortcut(inside)
        items.append(
            Residual(tuple(layer for layer in inside if layer not in beside), tuple(beside))
        )
        done = end
    return [*items, *ordered[done:]]


def fold_repeats(items: Sequence[Item]) -> tuple[Item, ...]:
    """Patterns of items that follow each other, each as one ``Repeat``."""
    keys = [signature(item) for item in items]
    folded: list[Item] = []
    place = 0
    while place < len(items):
        width, times = _longest_repeat(keys, place)
        if times > 1:
            rounds = tuple(
                tuple(items[place + r * width : place + (r + 1) * width]) for r in range(times)
            )
            folded.append(Repeat(rounds))
        else:
            folded.append(items[place])
        place += width * times
    return tuple(folded)


def signature(item: Item) -> object:
    """What must be equal for two items to be folded: names but for numbers, shapes, roles."""
    if isinstance(item, Layer):
        return (
            fold_names(item.path),
            tuple((a.parameter.rpartition(".")[2], a.shape, a.role) for a in item.assignments),
            tuple(a.action for a in item.assignments),
            tuple(type(a.scheme).__name__ for a in item.assignments),
        )
    if isinstance(item, Residual):
        return (tuple(map(signature, item.branch)), tuple(map(signature, item.shortcut)))
    return tuple(tuple(map(signature, one)) for one in item.rounds)


def layers_of(items: Sequence[Item]) -> list[Layer]:
    """All layers in the items, in order."""
    found: list[Layer] = []
    for item in items:
        if isinstance(item, Layer):
            found.append(item)
        elif isinstance(item, Residual):
            found += layers_of(item.branch) + layers_of(item.shortcut)
        else:
            for one in item.rounds:
                found += layers_of(one)
    return found


def _longest_repeat(keys: Sequence[object], place: int) -> tuple[int, int]:
    best = (1, 1)
    for width in range(1, min(_LONGEST_PATTERN, (len(keys) - place) // 2) + 1):
        times = 1
        pattern = keys[place : place + width]
        while keys[place + times * width : place + (times + 1) * width] == pattern:
            times += 1
        if times > 1 and width * times > best[0] * best[1]:
            best = (width, times)
    return best


def _writers(layers: Sequence[Layer]) -> list[int]:
    return [
        place
        for place, layer in enumerate(layers)
        if any(a.role in WRITERS for a in layer.assignments) and not layer.on_shortcut
    ]


def _end_of_branch(layers: Sequence[Layer], place: int, block: str) -> int:
    """Behind the last layer that ran before the branch is added back."""
    end = place + 1
    added = layers[place].added
    if added is not None:
        while end < len(layers) and (layers[end].ran or 0) < added:
            end += 1
        return end
    # Without the numbers: a convolution's norm follows it inside the branch, a transformer's
    # stands behind the add; shortcuts come last in a block.
    if layers[place].main.axes.receptive and end < len(layers) and _is_norm(layers[end]):
        end += 1
    while end < len(layers) and layers[end].on_shortcut and _within(layers[end].path, block):
        end += 1
    return end


def _shortcut(inside: Sequence[Layer]) -> list[Layer]:
    """The layers on the shortcut: those that say so, and the norms that ran right after them."""
    found: list[Layer] = []
    for place, layer in enumerate(inside):
        follows = bool(found) and place > 0 and inside[place - 1] is found[-1]
        if layer.on_shortcut or (follows and _is_norm(layer)):
            found.append(layer)
    return found


def _is_norm(layer: Layer) -> bool:
    return all(a.role in NORMS for a in layer.assignments)


def _starts_with_norm(layers: Sequence[Layer], block: str) -> bool:
    return next((_is_norm(layer) for layer in layers if _within(layer.path, block)), False)


def _block_of(layers: Sequence[Layer], place: int) -> str:
    """The path of the block that a writer's branch belongs to.

    It is the innermost numbered container of which another number holds the same writer: for
    ``stages.0.layers.1.layer.2.conv`` that is ``stages.0.layers.1``, not ``….layer.2``.
    """
    path = layers[place].path
    writers = {layers[other].path for other in _writers(layers) if other != place}
    parts = path.split(".")
    numbered = [i for i, part in enumerate(parts) if part.isdigit()]
    for index in reversed(numbered):
        head, rest = ".".join(parts[:index]), ".".join(parts[index + 1 :])
        pattern = re.compile(
            re.escape(f"{head}." if head else "") + r"\d+" + re.escape(f".{rest}" if rest else "")
        )
        if rest and any(pattern.fullmatch(other) for other in writers):
            return ".".join(parts[: index + 1])
    if numbered and numbered[0] < len(parts) - 1:
        return ".".join(parts[: numbered[0] + 1])
    return ".".join(parts[:-1])


def _within(path: str, block: str) -> bool:
    return not block or path == block or path.startswith(f"{block}.")
