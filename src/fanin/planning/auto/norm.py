"""Scales and biases of normalisation layers.

Scales are 1, and 0 where a batch or group norm ends a residual branch; biases are 0.  In a deep
chain without skips they start where gradients keep their size (``norm_start``).

A branch that ends in a norm adds unit variance to its stream whatever its weights: behind L of them
the stream has L + 1 times its variance, and nothing in the weights can make the branches smaller.
The norm's scale can.  At 0 every block starts as the identity, and opens by its own gradient from
the first step on (Goyal et al., Accurate, Large Minibatch SGD, 2017; Wu & He, Group Normalization,
2018).  Layer and RMS norms in that place stay at 1: transformers built so, such as Gemma 2, were
seen to learn slower from 0 (docs/planning.md).
"""

from math import isclose

from fanin.graph.vocabulary import word
from fanin.planning.auto.intent import shows_intent
from fanin.planning.auto.norm_start import own_starts
from fanin.planning.families import closing_norms, users
from fanin.planning.recipe import Decision, leave
from fanin.planning.small_parameters import neutral_scale, small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Constant, Zeros

_OVER_CHANNELS = ("batch_norm", "group_norm")


def norm_scale(subject: Subject, circumstances: Circumstances) -> Decision:
    """One, or zero at the end of a branch; another constant is the author's and stays."""
    of_run = _of_a_run(subject, circumstances, 1.0 - subject.role.offset)
    constant, offset = subject.constant, subject.role.offset
    if of_run is not None:
        return of_run
    if constant is not None and constant != 1 - offset and shows_intent(circumstances):
        return leave(f"norm scale: its constructor's {constant:g} stays", *subject.role.evidence)
    if not closes(subject, circumstances):
        return neutral_scale(subject)
    last = closing_norms(circumstances)[subject.name].name
    reason = "norm at the end of a residual branch: 0, so that the block starts as the identity"
    evidence = (f"it stands between {last} and the add", *subject.role.evidence)
    return Decision(Zeros(), reason, evidence)


def norm_bias(subject: Subject, circumstances: Circumstances) -> Decision:
    """Zero, or what keeps gradients in a deep chain; another constant is the author's and stays."""
    of_run = _of_a_run(subject, circumstances, 0.0)
    if of_run is not None:
        return of_run
    if subject.constant and shows_intent(circumstances) and subject.count > 1:
        return leave(f"norm bias: its constructor's {subject.constant:g} stays")
    return small_parameter(subject, circumstances)


def _of_a_run(subject: Subject, circumstances: Circumstances, usual: float) -> Decision | None:
    """The start that a chain asks for, unless the author chose something else than usual."""
    found = own_starts(circumstances).get(subject.name)
    if found is None:
        return None
    value = found[0] - subject.role.offset
    constant = subject.constant
    chosen = constant is not None and not any(
        isclose(constant, v, abs_tol=0.01) for v in (usual, value)
    )
    if chosen and shows_intent(circumstances):
        return None
    return Decision(Constant(value), found[1], subject.role.evidence)


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
