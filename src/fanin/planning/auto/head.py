"""Layers that steer or end the model: heads, modulation, routers of experts."""

from fanin.graph.role import Role
from fanin.planning.auto.intent import deliberate_zero, shows_intent
from fanin.planning.auto.plain_stack import behind_deep_stack
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject, once_per_model
from fanin.schemes import LeCun, VarianceScaling, Zeros

LOGIT_STD = 0.25
"""Small enough that the loss starts at ln C (σ²/2 = .03 above it), large enough that the layers
below get a gradient from the first step on; zero would leave them without one."""

ROUTER_LOGIT_STD = 0.1
"""So small that every expert starts with about its share of the tokens."""


def head(subject: Subject, circumstances: Circumstances) -> Decision:
    """Logits of std 0.25: for unit features, or for those of the deep plain stack before it.

    Of std 1, as from a tied embedding, where the head is a language model's or follows a post-norm
    stream: the loss starts half a nat higher, but the directions in which it pulls the layers below
    hold still.  A small head turns within a few of Adam's steps, and they turn with it.  Where a
    norm divides its result, as before a cosine, there are no logits to keep small.
    """
    decision = deliberate_zero(subject, circumstances)
    decision = decision or behind_deep_stack(subject, circumstances)
    if decision is not None:
        return decision
    evidence = subject.role.evidence
    if subject.role.norm_after:
        reason = "projection whose size a norm sets: 1/fan_in, as quick as the matrices before it"
        return Decision(LeCun(), reason, evidence)
    table = _table_of(subject, circumstances)
    if table is not None or follows_post_norm(circumstances):
        kind = f"over the rows of {table.name}" if table is not None else "of a post-norm model"
        return Decision(LeCun(), f"head {kind}: fan_in^(−½), logits of std 1", evidence)
    reason = f"head: {LOGIT_STD} fan_in^(−½), so that the loss starts near ln C"
    return Decision(VarianceScaling(scale=LOGIT_STD**2), reason, evidence)


def _table_of(subject: Subject, circumstances: Circumstances) -> Subject | None:
    """The embedding whose rows a head chooses among: one row an output, though not tied."""
    outputs = subject.fans.fan_out
    tables = (s for s in circumstances if s.role.role is Role.EMBEDDING and len(s.shape) == 2)
    return next((s for s in tables if s.shape[0] == outputs > 2), None)


@once_per_model
def follows_post_norm(circumstances: Circumstances) -> bool:
    """Whether the model's longest residual stream is a post-norm one."""
    streams = {(s.role.stream_branches, s.role.post_norm) for s in circumstances}
    return max(streams, default=(0, False))[1]


def modulation(subject: Subject, circumstances: Circumstances) -> Decision:
    """Zeros where every stream then passes as it is (adaLN-Zero, Peebles & Xie 2023).

    Random ones multiply each stream by 1 + noise that depends on the condition alone, and gate
    every branch at random. Where zeros would shut a path: 1/fan_in.
    """
    kept = deliberate_zero(subject, circumstances)
    if kept is not None:
        return kept
    role = subject.role
    if role.neutral_at_zero and not subject.parametrised and not _closed_by_author(circumstances):
        why = "modulation: 0, so that every block starts as the identity (adaLN-Zero)"
        return Decision(Zeros(), why, role.evidence)
    return Decision(LeCun(), "modulation: 1/fan_in", role.evidence)


@once_per_model
def _closed_by_author(circumstances: Circumstances) -> bool:
    """Whether a gated branch ends in zeros already: its gate must not be zero too."""
    return shows_intent(circumstances) and any(
        s.constant == 0 and s.writes_residual and s.role.branch is not None and s.role.branch.gated
        for s in circumstances
        if s.is_layer_weight
    )


def router(subject: Subject, circumstances: Circumstances) -> Decision:
    """Logits of std 0.1: no expert is preferred at the start, and none is equal to another."""
    reason = f"router: {ROUTER_LOGIT_STD} fan_in^(−½), so that experts start evenly loaded"
    return Decision(VarianceScaling(scale=ROUTER_LOGIT_STD**2), reason, subject.role.evidence)
