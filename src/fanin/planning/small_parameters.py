"""What most recipes do with everything that is not a layer weight or a table."""

from fanin.graph.role import Role
from fanin.planning.recipe import Decision, leave
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Constant, Normal, Ones, Zeros

PRELU_SLOPE = 0.25
"""He et al. 2015, and PyTorch's default."""

CAIT_LAYER_SCALE = ((18, 0.1), (24, 1e-5))
"""Touvron et al. 2021, Going deeper with image transformers: 0.1 up to 18 blocks, 1e-5 up to
24, and 1e-6 for deeper models."""


def layer_scale(blocks: int) -> float:
    """CaiT's LayerScale by the number of blocks."""
    return next((value for depth, value in CAIT_LAYER_SCALE if blocks <= depth), 1e-6)


def small_parameter(subject: Subject, circumstances: Circumstances) -> Decision:
    """Norm scales 1, biases 0; gates, LayerScale and tokens as constructed.

    A tensor on the meta device has no constructed value to keep: it gets the value that its
    role usually starts from.
    """
    role, evidence = subject.role.role, subject.role.evidence
    if role is Role.NORM_SCALE:
        return neutral_scale(subject)
    if role is Role.NORM_BIAS:
        return Decision(Zeros(), "norm bias: 0", evidence)
    if subject.is_bias:
        return Decision(Zeros(), "bias: 0", evidence)
    if not subject.on_meta:
        return _as_constructed(subject)
    if role is Role.LAYER_SCALE:
        value = layer_scale(max(circumstances.block_count, circumstances.residual_branches // 2))
        return Decision(Constant(value), f"LayerScale: {value:g} for this depth (CaiT)", evidence)
    if role is Role.GATE and subject.role.kind == "prelu":
        return Decision(Constant(PRELU_SLOPE), "PReLU's slope: 0.25, its default", evidence)
    if role is Role.GATE:
        return Decision(Zeros(), "gate: 0, so that its branch starts closed", evidence)
    if role in {Role.TOKEN, Role.POSITION_TABLE}:
        return Decision(Normal(std=0.02), f"{role}: N(0, 0.02²), as in BERT and ViT", evidence)
    return _as_constructed(subject)


def neutral_scale(subject: Subject) -> Decision:
    """A norm scale that multiplies by 1; 0 where the norm adds 1 to it, as Gemma's do."""
    offset, evidence = subject.role.offset, subject.role.evidence
    if offset == 0:
        return Decision(Ones(), "norm scale: 1", evidence)
    value = 1 - offset
    reason = f"norm scale: {value:g}, to which the norm adds {offset:g}"
    return Decision(Zeros() if value == 0 else Constant(value), reason, evidence)


def _as_constructed(subject: Subject) -> Decision:
    role, evidence = subject.role.role, subject.role.evidence
    value = "" if subject.constant is None else f" ({subject.constant:g})"
    if role in {Role.LAYER_SCALE, Role.GATE, Role.TOKEN, Role.POSITION_TABLE}:
        return leave(f"{role}: its constructor's value{value} stays", *evidence)
    if role is Role.UNUSED:
        return leave("left: the recorded call did not use it", *evidence)
    if subject.layer_type:
        why = f"left: {subject.local_name!r} is no parameter that a {subject.layer_type} has"
        return leave(why, *evidence)
    return leave(
        f"left: what this parameter of {subject.type_name} is for is not known; "
        "pass inputs, or name it in overrides",
        *evidence,
    )
