"""Who wins a comparison, in words that a person understands."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fanin.comparing.scores import Metric
from fanin.comparing.statistics import Interval

if TYPE_CHECKING:
    from fanin.comparing.summary import Row

WORSE = "worse"
UNKNOWN = "one seed: no verdict"


def model_sentence(
    model: str,
    metric: Metric,
    best: str,
    winner: str | None,
    rows: "Sequence[Row]",
    target: float | None,
) -> str:
    """One or two sentences: the winner and by how much, or who cannot be told apart."""
    of = {row.recipe: row for row in rows}
    reached = f"{metric.title} {value_with_interval(of[best].score, metric)}"
    others = sorted(
        (row for row in rows if row.recipe != best),
        key=lambda row: row.score.mean,
        reverse=metric.higher_is_better,
    )
    if not others:
        return f"{model}: {best} reaches {reached}; there is nothing to compare it with."
    if any(row.verdict == UNKNOWN for row in others):
        return (
            f"{model}: {best} is ahead ({reached}), but one seed cannot tell luck from merit; "
            "give several."
        )
    if winner:
        return (
            f"{model}: {winner} wins with {reached}, {_gap(others[0], metric)} than "
            f"{others[0].recipe}, the next best.{_speed(of[best], others[0], target)}"
        )
    tied = [row.recipe for row in others if row.verdict != WORSE]
    beaten = [row.recipe for row in others if row.verdict == WORSE]
    if not beaten:
        return (
            f"{model}: no significant difference between any of the recipes; {best} has the best "
            f"mean ({reached})."
        )
    return (
        f"{model}: no significant difference between {best} ({reached}) and {_listed(tied, 'or')}; "
        f"{best} is significantly better than {_listed(beaten, 'and')}."
    )


def value_with_interval(interval: Interval, metric: Metric) -> str:
    """``95.2 % (94.0 to 96.4)`` for accuracies, ``0.213 (0.190 to 0.236)`` for losses."""
    if metric.name == "held_out_accuracy":
        mean = f"{100 * interval.mean:.1f} %"
        # Student's interval knows no bounds; accuracies do.
        low, high = max(0.0, interval.low), min(1.0, interval.high)
        around = f"{100 * low:.1f} to {100 * high:.1f}"
    else:
        mean = f"{interval.mean:.3g}"
        around = f"{interval.low:.3g} to {interval.high:.3g}"
    return mean if math.isnan(interval.low) else f"{mean} ({around})"


def p_value(p: float) -> str:
    """``p = 0.012``, ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _gap(row: "Row", metric: Metric) -> str:
    if row.difference is None or row.p is None:
        return "better"
    size, low, high = (abs(v) for v in (row.difference.mean, *_bounds(row.difference)))
    if metric.name == "held_out_accuracy":
        # Student's interval knows no bounds; accuracies do.
        high = min(1.0, high)
        text = f"{100 * size:.1f} points better ({100 * low:.1f} to {100 * high:.1f}"
    else:
        text = f"{size:.3g} lower ({low:.3g} to {high:.3g}"
    return f"{text}, {p_value(row.p)})"


def _bounds(interval: Interval) -> tuple[float, float]:
    # By size of the gap, so that a difference of −3 (−4 to −2) reads 3 (2 to 4).
    return (interval.low, interval.high) if interval.mean >= 0 else (interval.high, interval.low)


def _speed(best: "Row", next_best: "Row", target: float | None) -> str:
    if target is None or best.steps_to_target is None or next_best.steps_to_target is None:
        return ""
    if best.reached < best.seeds or next_best.reached < next_best.seeds:
        return ""
    mine, theirs = best.steps_to_target.mean, next_best.steps_to_target.mean
    if mine <= 0 or theirs < 1.1 * mine:
        return ""
    return (
        f" It is down to a training loss of {target:.3g} after {mine:.0f} steps, "
        f"{next_best.recipe} after {theirs:.0f}."
    )


def _listed(names: Sequence[str], word: str) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {word} {names[-1]}"
