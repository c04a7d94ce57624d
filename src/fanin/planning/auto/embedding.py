"""Embeddings, tied or not, and position tables."""

import math

from fanin.graph.role import Role
from fanin.planning.recipe import Decision, leave
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Normal

POSITION_STD = 0.02
"""BERT's and ViT's std, where no token table says how large its neighbours are."""


def embedding(subject: Subject, circumstances: Circumstances) -> Decision:
    """Tied: d^(−½), so that logits have unit variance; untied: unit RMS."""
    role, evidence = subject.role, subject.role.evidence
    if role.role is Role.POSITION_TABLE:
        return _positions(subject, circumstances)
    std = _std(subject)
    if role.role is Role.TIED_HEAD:
        why = f"embedding tied to the head: d^(−½) = {std:.4g}, so that logits have std about 1"
        return Decision(Normal(std=std), why, evidence)
    return Decision(Normal(std=std), "embedding: unit RMS", evidence)


def _std(subject: Subject) -> float:
    if subject.role.role is Role.TIED_HEAD:
        return 1 / math.sqrt(subject.shape[-1])
    return 1.0


def _positions(subject: Subject, circumstances: Circumstances) -> Decision:
    """As large as the token embeddings that they are added to."""
    evidence = subject.role.evidence
    if not subject.on_meta and subject.layer_type not in {"Embedding", "EmbeddingBag"}:
        value = "" if subject.constant is None else f" ({subject.constant:g})"
        return leave(f"position table: its constructor's values{value} stay", *evidence)
    tokens = [s for s in circumstances if s.role.role in {Role.EMBEDDING, Role.TIED_HEAD}]
    if not tokens:
        reason = f"position table: N(0, {POSITION_STD}²)"
        return Decision(Normal(std=POSITION_STD), reason, evidence)
    std = _std(tokens[0])
    reason = f"position table: as large as {tokens[0].name}, which it is added to"
    return Decision(Normal(std=std), reason, evidence)
