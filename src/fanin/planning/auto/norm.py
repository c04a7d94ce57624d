"""Scales of normalisation layers: 1, and 0 where a batch or group norm ends a residual branch.

A branch that ends in a norm adds unit variance to its stream whatever its weights: behind L of them
the stream has L + 1 times its variance, and nothing in the weights can make the branches smaller.
The norm's scale can.  At 0 every block starts as the identity, and opens by its own gradient from
the first step on (Goyal et al., Accurate, Large Minibatch SGD, 2017; Wu & He, Group Normalization,
2018).  Layer and RMS norms in that place stay at 1: transformers built so, such as Gemma 2, were
seen to learn slower from 0 (docs/planning.md).
"""

from fanin.graph.vocabulary import word
from fanin.planning.auto.intent import shows_intent
from fanin.planning.families import closing_norms, users
from fanin.planning.recipe import Decision, leave
from fanin.planning.small_parameters import neutral_scale
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Zeros

_OVER_CHANNELS = ("batch_norm", "group_norm")


def norm_scale(subject: Subject, circumstances: Circumstances) -> Decision:
    """One, or zero at the end of a branch; another constant is the author's and stays."""
    constant, offset = subject.constant, subject.role.offset
    if constant is not None and constant != 1 - offset and shows_intent(circumstances):
        return leave(f"norm scale: its constructor's {constant:g} stays", *subject.role.evidence)
    if not closes(subject, circumstances):
        return neutral_scale(subject)
    last = closing_norms(circumstances)[subject.name].name
    reason = "norm at the end of a residual branch: 0, so that the block starts as the identity"
    evidence = (f"it stands between {last} and the add", *subject.role.evidence)
    return Decision(Zeros(), reason, evidence)


def closes(subject: Subject, circumstances: Circumstances) -> bool:
    """Whether a scale of 0 would close a branch that its own gradient opens again.

    Not where something else may be 0 too, or flat there: a gate, a LayerScale, an activation behind
    the norm, a last weight of zeros, another branch around this one or inside it.
    """
    last, graph = closing_norms(circumstances).get(subject.name), circumstances.graph
    if last is None or graph is None:
        return False
    norms = (word(operation) for operation in users(graph, subject.name))
    if not any(kind in norm for norm in norms for kind in _OVER_CHANNELS):
        return False
    if subject.frozen or subject.role.offset or last.constant == 0 or last.role.branch is None:
        return False
    branch = last.role.branch
    factors = set(branch.factors) - {subject.name}
    shut = branch.gated or branch.bent or factors or not branch.constant
    return not (shut or branch.nested or branch.encloses)
