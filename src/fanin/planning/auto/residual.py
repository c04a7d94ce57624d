"""Weights of residual branches: the writers, and what stands before them in a post-norm branch."""

from fanin.graph.role import Role
from fanin.planning.auto.gain import LINEAR, name_of, squared_gain
from fanin.planning.auto.head import LOGIT_STD
from fanin.planning.families import last_writer
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import LeCun, VarianceScaling
from fanin.schemes.scheme import Scheme

_SMALL = 0.4
"""SmallInit's factor on 1/fan_in: the variance 2/(d + 4d) of a d × 4d matrix by Xavier's rule."""

_INNER = frozenset({Role.VALUE, Role.WEIGHT, Role.UP_PROJECTION})
"""What a post-norm branch has before its last matrix; a gate only chooses, as q and k do."""


def residual_scale(subject: Subject, circumstances: Circumstances) -> tuple[float, str]:
    """The factor on a weight's variance that its place in a residual network asks for, and why.

    Pre-norm: 1/N on the writers of N branches, so that the stream's second moment at most doubles
    from one end to the other, whatever the depth; none where a norm closes the branch and hides
    the writer's scale.  Where the sum is what the model returns, its writer is a head too, and as
    small as one.  What reads the norm starts small (``reader_scale``).  Post-norm: DeepNorm's start
    by weights alone.
    """
    role = subject.role
    if role.post_norm:
        return _post_norm_scale(subject, circumstances)
    branches = role.residual_branches
    if branches == 0:
        return reader_scale(subject)
    if role.norm_after:
        return 1.0, "a norm closes its branch and hides its scale"
    if role.branch is not None and role.branch.ends:
        why = f"writes to the model's output, a head: × {LOGIT_STD} · {branches}^(−½)"
        return LOGIT_STD**2 / branches, why
    return 1 / branches, f"residual writer, one of {branches}: × {branches}^(−½)"


def reader_scale(subject: Subject) -> tuple[float, str]:
    """SmallInit (Nguyen & Salazar 2019) for what reads a pre-norm: variance 2/(5·fan_in).

    One size for the attention's matrices and the MLP's, as GPT-NeoX-20B starts; it is N(0, 0.02²)
    at d = 1000. Under one learning rate the matrices then turn as fast as the rest learns, and the
    attention starts nearer to uniform.
    """
    role = subject.role
    reads = role.norm_before and role.branch is not None and not role.post_norm
    if not reads or role.residual_branches:
        return 1.0, ""
    return _SMALL, "reads a norm: 2/(5·fan_in) (SmallInit)"


def between_norms(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """SmallInit for a weight of a residual network that stands alone between two norms; else None.

    BERT's transform before its head is one.  Its scale hardly shows, and sets how fast it turns:
    as fast as what reads the other norms.
    """
    role = subject.role
    alone = role.norm_before and role.norms_alone and role.branch is None
    if not alone or last_writer(circumstances) == 0:
        return None
    reason = "between norms, which hide its scale: 2/(5·fan_in) (SmallInit)"
    return Decision(VarianceScaling(scale=_SMALL), reason, role.evidence)


def _post_norm_scale(subject: Subject, circumstances: Circumstances) -> tuple[float, str]:
    """LN(αx + f) = LN(x + f/α): DeepNorm (Wang et al. 2022) without touching the architecture.

    With N adds on the stream (2M in an encoder or decoder alone, 3M in a decoder that also reads
    an encoder) the paper's β is (4N)^(−¼) and its α is N^¼: v, o, fc1 and fc2 × β, and o and fc2,
    which write to the stream, further ÷ α.
    """
    adds = subject.role.stream_branches
    if subject.writes_residual:
        return 1 / (2 * adds), f"post-norm writer, one of {adds}: × (4N)^(−¼) N^(−¼)"
    if subject.role.role in _INNER and not subject.role.norm_after:
        return (4 * adds) ** -0.5, f"inside one of {adds} post-norm branches: × (4N)^(−¼)"
    return 1.0, ""


def inside_residual(subject: Subject, circumstances: Circumstances) -> Decision:
    """A weight of a residual network: unit variance by what its input has been through.

    Behind a norm or an add the input has second moment 1; behind an activation E[φ²].
    """
    role = subject.role
    squared, fact = squared_gain(role.before)
    if name_of(role.before) in LINEAR:
        fact = "reads a signal that no activation has bent: gain 1"
    factor, why = residual_scale(subject, circumstances)
    source = f"reads {role.before.name}: He" if squared != 1 and role.before else "fan_in^(−½)"
    reason = f"{source}; {why}" if why else f"in a residual network: {source}"
    if factor == _SMALL and squared == 1:
        reason = why
    scale = squared * factor
    scheme: Scheme = LeCun() if scale == 1 else VarianceScaling(scale=scale)
    return Decision(scheme, reason, (fact, *role.evidence))
