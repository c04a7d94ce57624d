"""One use of one parameter: by which operation, as what, on which signal, along which axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fanin.axes import Axes
from fanin.graph.graph import Operation
from fanin.graph.labels import Labels


class Part(StrEnum):
    """As what an operation takes a parameter."""

    WEIGHT = "weight"  # summed over against a signal
    BIAS = "bias"
    SCALE = "scale"  # of a normalisation
    SHIFT = "shift"  # of a normalisation
    TABLE = "table"  # looked up row by row
    TOKEN = "token"  # stands where a signal stands
    FACTOR = "factor"  # multiplies a signal elementwise
    TERM = "term"  # is added to a signal elementwise
    MAGNITUDE = "magnitude"  # scales a weight, as weight norm's g
    SLOPE = "slope"  # shapes an activation, as PReLU's
    OTHER = "other"


@dataclass(frozen=True)
class Use:
    """How an operation uses a parameter.

    Args:
        parameter: its first name.
        family: linear, convolution, embedding, …
        part: as what.
        operation: that operation.
        labels: which axes of the parameter the operand's dimensions are.
        source: id of the signal that it meets; None for none.
        result: id of the signal that comes out.
        operand: id of the tensor, made of the parameter, that the operation reads.
        axes: roles of the parameter's axes in this use; None where they do not show.
        offset: constant that was added to the parameter before (1.0 in Gemma's ``1 + w``).
    """

    parameter: str
    family: str
    part: Part
    operation: Operation
    labels: Labels
    source: int | None
    result: int
    operand: int
    axes: Axes | None = None
    offset: float = 0.0

    @property
    def arithmetic(self) -> tuple[str, ...]:
        """Names of what was computed with the parameter before, views aside."""
        return self.labels.arithmetic


def axes_in_use(
    labels: Labels,
    shape: Sequence[int],
    dimension_roles: str,
    *,
    groups: int = 1,
    stride: Sequence[int] = (),
    transposed: bool = False,
) -> Axes | None:
    """Axes of a parameter from the roles that an operation gives its operand's dimensions.

    Args:
        labels: of the operand.
        shape: of the parameter.
        dimension_roles: one letter a dimension of the operand: (o)utput, (i)nput, (r)eceptive
            field, (b)atch.
        groups: of a convolution.
        stride: of a convolution.
        transposed: a transposed convolution.

    Returns:
        None when the operand's dimensions cannot be traced to the parameter's axes.
    """
    if labels.dims is None or len(labels.dims) != len(dimension_roles):
        return None
    chosen: dict[int, str] = {}
    blocks: tuple[int, ...] = ()
    packed_inputs = 1
    for axis, size in enumerate(shape):
        atoms = [(dimension_roles[d], atom) for d, atom in labels.dimensions_of(axis)]
        roles = {role for role, atom in atoms if atom.size > 1} or {role for role, _ in atoms}
        if axis in labels.summed:
            chosen[axis] = "s"
        elif not roles:
            # Selected at an index: one independent weight of several, as in a loop over experts.
            chosen[axis] = "b" if size > 1 else "?"
        elif roles == {"b", "o"}:
            chosen[axis] = "o"
            inner = [atom for role, atom in atoms if role == "o"]
            if len(inner) == 1 and inner[0].step == 1:
                blocks = (inner[0].size,) * (size // inner[0].size)
        elif roles == {"b", "i"}:
            chosen[axis] = "i"
            for role, atom in atoms:
                packed_inputs *= atom.size if role == "b" else 1
        else:
            chosen[axis] = next(r for r in ("o", "i", "r", "b") if r in roles)
    # A factor of a product of weights: what was summed there is its other side.
    other_side = "i" if "o" in chosen.values() else "o"
    for axis, role in chosen.items():
        if role == "s":
            chosen[axis] = other_side
    for axis, role in chosen.items():
        if role == "?":
            missing = [r for r in ("i", "o") if r in dimension_roles and r not in chosen.values()]
            chosen[axis] = missing[0] if missing else ("o" if "o" in dimension_roles else "i")
    taken = {r: tuple(a for a, role in chosen.items() if role == r) for r in "oirb"}
    if blocks and sum(blocks) != shape[taken["o"][0]]:
        blocks = ()
    # Inputs of independent weights packed along one axis divide it as a transposed
    # convolution's groups do.
    return Axes(
        outputs=taken["o"],
        inputs=taken["i"],
        receptive=taken["r"],
        batch=taken["b"],
        block_sizes=blocks,
        groups=groups * packed_inputs,
        stride=stride if len(stride) == len(taken["r"]) else (),
        transposed=transposed or packed_inputs > 1,
    )
