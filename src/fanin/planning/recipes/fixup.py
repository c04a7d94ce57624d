"""fixup: residual networks without normalisation."""

from fanin.graph.role import Role
from fanin.planning.families import branches_of, reference_axes
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Ones, VarianceScaling, Zeros


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """He · L^(−1/(2m−2)) inside branches of m layers, 0 at their end and in the head."""
    role, evidence = subject.role, subject.role.evidence
    if role.role is Role.HEAD:
        return Decision(Zeros(), "head: 0", evidence)
    if role.role in {Role.GATE, Role.LAYER_SCALE} and role.kind != "prelu":
        return Decision(Ones(), "multiplier: 1", evidence)
    if not subject.is_layer_weight:
        return small_parameter(subject, circumstances)
    if subject.writes_residual:
        return Decision(Zeros(), "last layer of a residual branch: 0", evidence)
    size, axes = branch_size(subject, circumstances), reference_axes(subject)
    if size < 2:
        he = VarianceScaling(scale=2.0, mode="fan_out")
        return Decision(he, "He, fan_out = k²·C_out", evidence, axes=axes)
    count = branches_of(subject, circumstances)
    scale = 2.0 * count ** (-1 / (size - 1))
    reason = f"inside a branch of {size} layers, one of {count}: He · {count}^(−1/{2 * size - 2})"
    return Decision(VarianceScaling(scale=scale, mode="fan_out"), reason, evidence, axes=axes)


def branch_size(subject: Subject, circumstances: Circumstances) -> int:
    """m: weight layers in the branch that a weight stands in; 0 outside of branches.

    A branch's layers follow each other in depth and end with the one that writes to the stream;
    a shortcut's projection shares its block's first depth but is followed by the add.
    """
    ends = sorted(s.role.depth for s in circumstances if s.is_layer_weight and s.writes_residual)
    end = next((depth for depth in ends if depth > subject.role.depth), None)
    if end is None:
        return 0
    before = max((depth for depth in ends if depth < end), default=None)
    start = before + 1 if before is not None else _first_depth(end, ends)
    writer = next(
        s for s in circumstances if s.writes_residual and s.role.depth == end and s.is_layer_weight
    )
    inside = subject.role.depth >= start and _same_block(subject, writer)
    return end - start + 1 if inside else 0


def _first_depth(end: int, ends: list[int]) -> int:
    """Depth of the first branch's first layer: its size is that of the next branch."""
    later = [depth for depth in ends if depth > end]
    return end - (later[0] - end) + 1 if later else end - 1


def _same_block(subject: Subject, writer: Subject) -> bool:
    """Both stand in one block and the subject is no shortcut: the module right around them."""
    ours, theirs = subject.module.split("."), writer.module.split(".")
    shared = 0
    while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
        shared += 1
    # A shortcut's projection leaves the writer's path earlier than the branch's own layers do.
    telling = ("shortcut", "downsample", "skip", "proj_shortcut", "identity")
    return not any(word in part.lower() for part in ours[shared:] for word in telling)


RECIPE = Recipe(
    name="fixup",
    summary="He·L^(−1/(2m−2)) inside residual branches, their last layer and the head 0.",
    paper="Zhang, Dauphin & Ma, Fixup Initialization, ICLR 2019",
    docs="""\
For residual networks without normalisation: L branches of m layers each. All but the last layer of
a branch N(0, 2/(k²·C_out)), whatever the stride, times L^(−1/(m−1)) in variance, the last one and
the classifier 0. It also wants scalar biases and multipliers in the architecture: where they are,
they start at 0 and 1.""",
    decide=decide,
)
