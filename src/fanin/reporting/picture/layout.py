"""Where each block of a plan's picture stands: boxes, lines, adds and frames on a grid of pixels.

The stream runs from top to bottom.  A residual branch stands to the right of the stream and is
added back to it; a shortcut with weights stands to the right of the branch.  What repeats is
drawn once inside a frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fanin.reporting.picture.flow import Item, Repeat, Residual, layers_of
from fanin.reporting.picture.layer import Layer

BOX_WIDTH, BOX_HEIGHT, GAP = 268, 46, 18
INDENT, PADDING, HEAD = 34, 12, 22


@dataclass(frozen=True)
class Box:
    """One layer: ``layers`` are those it stands for, one per round of the repeats around it.

    ``within`` is the path that its frame's label, or the whole model, gives already.
    """

    x: float
    y: float
    layers: tuple[Layer, ...]
    within: str


@dataclass(frozen=True)
class Frame:
    """The outline around what repeats."""

    x: float
    y: float
    width: float
    height: float
    count: int
    names: str


@dataclass
class Drawing:
    """Everything to draw; ``paths`` are SVG path data, ``adds`` the centres of the plus signs."""

    boxes: list[Box] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    adds: list[tuple[float, float]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0
    input: float = 0.0


def lay_out(items: Sequence[Item]) -> Drawing:
    """The drawing of a flow, with a word for the input above and the output below."""
    drawing = Drawing()
    x = _depth(items) * PADDING + 2
    stream = x + BOX_WIDTH / 2
    y = _column(drawing, [tuple(items)], x, HEAD, stream, _root(items))
    drawing.paths.append(f"M{stream} {y}V{y + GAP}")
    drawing.width = max(drawing.width, x + BOX_WIDTH) + x
    drawing.height = y + GAP + HEAD
    drawing.input = stream
    return drawing


def _column(
    drawing: Drawing,
    rounds: Sequence[tuple[Item, ...]],
    x: float,
    y: float,
    stream: float,
    within: str,
) -> float:
    """Draw the first round from ``y`` down; the y where the column ends."""
    for place, item in enumerate(rounds[0]):
        same = [one[place] for one in rounds]
        if isinstance(item, Layer):
            drawing.paths.append(f"M{stream} {y}V{y + GAP}")
            layers = tuple(other for other in same if isinstance(other, Layer))
            drawing.boxes.append(Box(x, y + GAP, layers, within))
            drawing.width = max(drawing.width, x + BOX_WIDTH)
            y += GAP + BOX_HEIGHT
        elif isinstance(item, Residual):
            residuals = [other for other in same if isinstance(other, Residual)]
            y = _residual(drawing, residuals, x, y, stream, within)
        else:
            repeats = [other for other in same if isinstance(other, Repeat)]
            y = _repeat(drawing, repeats, x, y, stream, within)
    return y


def _residual(
    drawing: Drawing, same: Sequence[Residual], x: float, y: float, stream: float, within: str
) -> float:
    """The branch beside the stream, the plus sign below it."""
    fork = y + GAP / 2
    # The stream passes left of the branch's boxes, where the eye can follow it.
    skip, column = x + INDENT / 2, x + INDENT
    centre = column + BOX_WIDTH / 2
    drawing.paths.append(f"M{stream} {y}V{fork}H{centre}")
    end = _column(drawing, [r.branch for r in same], column, fork, centre, within)
    if same[0].shortcut:
        second = column + BOX_WIDTH + GAP
        other = second + BOX_WIDTH / 2
        drawing.paths.append(f"M{centre} {fork}H{other}")
        lower = _column(drawing, [r.shortcut for r in same], second, fork, other, within)
        bottom = max(end, lower)
        plus = bottom + GAP
        drawing.paths.append(f"M{other} {lower}V{plus}H{stream}")
    else:
        plus = end + GAP
        drawing.paths.append(f"M{stream} {fork}H{skip}V{plus}H{stream}")
    drawing.paths.append(f"M{centre} {end}V{plus}H{stream}")
    drawing.adds.append((stream, plus))
    return plus + 8


def _repeat(
    drawing: Drawing,
    same: Sequence[Repeat],
    x: float,
    y: float,
    stream: float,
    within: str,
) -> float:
    top = y + GAP
    drawing.paths.append(f"M{stream} {y}V{top + HEAD}")
    rounds = [one for repeat in same for one in repeat.rounds]
    before = drawing.width
    drawing.width = 0.0
    inner = _path_of(rounds[0]) or within
    end = _column(drawing, rounds, x, top + HEAD - GAP / 2, stream, inner)
    right = max(drawing.width, x + BOX_WIDTH)
    drawing.frames.append(
        Frame(
            x - PADDING,
            top,
            right - x + 2 * PADDING,
            end + GAP / 2 - top,
            same[0].count,
            _names(same[0]),
        )
    )
    drawing.width = max(before, right + PADDING)
    drawing.paths.append(f"M{stream} {end}V{end + GAP / 2}")
    return end + GAP / 2


def _names(repeat: Repeat) -> str:
    """``h.0–11``: the common beginning of the names, with the range of what counts the rounds."""
    first = _path_of(repeat.rounds[0]).split(".")
    last = _path_of(repeat.rounds[-1]).split(".")
    if len(first) != len(last):
        return ""
    parts = (a if a == b else f"{a}–{b}" for a, b in zip(first, last, strict=True))
    return ".".join(parts)


def _path_of(items: Sequence[Item]) -> str:
    return _common([layer.path for layer in layers_of(items)])


def _root(items: Sequence[Item]) -> str:
    """The first name of every path if it is the same for all but a few: ``model.``, ``bert.``."""
    firsts = [layer.path.partition(".")[0] for layer in layers_of(items) if "." in layer.path]
    common = max(firsts, key=firsts.count, default="")
    return common if firsts.count(common) > len(layers_of(items)) / 2 else ""


def _common(paths: Sequence[str]) -> str:
    split = [path.split(".") for path in paths]
    shared = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def _depth(items: Sequence[Item]) -> int:
    """How many frames stand inside each other, at most."""
    depths = [0]
    for item in items:
        if isinstance(item, Repeat):
            depths.append(1 + _depth(item.rounds[0]))
        elif isinstance(item, Residual):
            depths.append(max(_depth(item.branch), _depth(item.shortcut)))
    return max(depths)
