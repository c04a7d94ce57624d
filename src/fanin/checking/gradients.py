"""What the rules of exploding and of vanishing gradients share; they differ in the direction."""

from collections.abc import Callable, Iterator

from fanin.checking.case import Case
from fanin.checking.drift import ERROR_DRIFT, WARN_DRIFT, Drift, gradient_drift
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Rule

Beyond = Callable[[Drift, float], bool]
"""``Drift.above`` or ``Drift.below``: whether a drift goes further than a factor."""


def find_drifting_gradients(
    rule: Rule, case: Case, beyond: Beyond, allowed_by_norms: float
) -> Iterator[Finding]:
    """One finding for each stream whose gradient drifts too far on its way back.

    Args:
        rule: whose finding it is.
        case: the model under examination.
        beyond: the direction of the drift.
        allowed_by_norms: factor by which the limits are wider where norms stand in the stream.
    """
    grows = beyond is Drift.above
    for stream in case.streams:
        drift = gradient_drift(stream)
        allowed = allowed_by_norms if any(p.is_norm for p in stream.points) else 1.0
        limit = WARN_DRIFT * allowed
        if drift is None or not beyond(drift, limit):
            continue
        fold = f"grows {drift.ratio:.3g}" if grows else f"falls {1 / drift.ratio:.3g}"
        yield rule.finding(
            Severity.ERROR if beyond(drift, ERROR_DRIFT * allowed) else Severity.WARNING,
            drift.end.where,
            f"the gradient {fold}-fold on its way back over {drift.way}, from "
            f"{drift.start.where!r} to {drift.end.where!r}.",
            measured={"ratio": drift.ratio},
            expected=f"first over last at {f'most {limit:g}' if grows else f'least 1/{limit:g}'}",
            fix="fanin.initialize(model, inputs) chooses weights that pass gradients on, or "
            "says that this depth needs a norm or a skip.",
        )
