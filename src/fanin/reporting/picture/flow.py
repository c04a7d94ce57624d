"""A plan as a flow of blocks, from input to output.

A plan lists parameters in the model's order and says what each is for; it holds no graph.  The
flow is read from that: layers in order, a residual branch wherever a parameter's role says that
it writes to the stream, and what repeats folded.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fanin.graph.role import Role
from fanin.planning.plan import Assignment, Plan
from fanin.planning.plan_table import fold_names

WRITERS = frozenset({Role.RESIDUAL_WRITER, Role.ATTENTION_OUT, Role.DOWN_PROJECTION})
"""Roles of the last weight of a branch."""

NORMS = frozenset({Role.NORM_SCALE, Role.NORM_BIAS})
_SHORTCUT = re.compile(r"(^|[._])(downsample|shortcut|skip)([._]|$)")
_LONGEST_PATTERN = 12
"""Most items in one repeated pattern: a block of any common network has fewer branches."""


@dataclass(frozen=True)
class Layer:
    """One module that holds parameters itself, and what each of them gets."""

    path: str
    assignments: tuple[Assignment, ...]

    @property
    def main(self) -> Assignment:
        """The parameter that the layer is drawn by: its weight, not its bias."""
        return next((a for a in self.assignments if not _is_bias(a)), self.assignments[0])


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
    """The layers with every residual branch gathered into one item."""
    items: list[Item] = []
    open_layers: list[Layer] = []
    ends = {place: _last_of_branch(layers, place) for place in _writers(layers)}
    place = 0
    while place < len(layers):
        open_layers.append(layers[place])
        if place in ends:
            last = ends[place]
            open_layers += layers[place + 1 : last + 1]
            block = _block_of(layers, place)
            inside = [x for x in open_layers if _within(x.path, block)]
            items += [x for x in open_layers if not _within(x.path, block)]
            after = last + 1
            while after < len(layers) and _is_shortcut(layers[after], block):
                inside.append(layers[after])
                after += 1
            items.append(
                Residual(
                    tuple(x for x in inside if not _SHORTCUT.search(x.path)),
                    tuple(x for x in inside if _SHORTCUT.search(x.path)),
                )
            )
            open_layers = []
            place = after
        else:
            place += 1
    return [*items, *open_layers]


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
        if any(a.role in WRITERS for a in layer.assignments) and not _SHORTCUT.search(layer.path)
    ]


def _last_of_branch(layers: Sequence[Layer], place: int) -> int:
    # A convolution's norm follows it inside the branch; a transformer's stands behind the add.
    after = place + 1
    convolution = bool(layers[place].main.axes.receptive)
    if convolution and after < len(layers) and _all_roles(layers[after], NORMS):
        return after
    return place


def _all_roles(layer: Layer, roles: frozenset[Role]) -> bool:
    return all(a.role in roles for a in layer.assignments)


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


def _is_shortcut(layer: Layer, block: str) -> bool:
    return bool(_SHORTCUT.search(layer.path)) and _within(layer.path, block)


def _is_bias(a: Assignment) -> bool:
    name = a.parameter.rpartition(".")[2]
    return name.startswith("bias") or a.role in {Role.BIAS, Role.NORM_BIAS, Role.RECURRENT_BIAS}
