"""The learning rate that the depth of a post-norm stream allows.

Adam moves every element of a weight by about its rate, however small the weight.  A writer of
fan-in n whose input has RMS m then moves the stream by up to rate · n · m, and N writers, which
Adam moves together, by the sum.  The stream has RMS 1 behind every norm, so that the sum must stay
below about 1.  With auto's start m is (4N)^(−¼) times what the activation passes, and the rate
falls as N^(−¾).

Measured at 6 to 200 layers of width 64 (and 12 of width 32 and 128), the first step moves the last
norm's output by 0.22 (0.29, 0.18) times the sum: the same share at every depth.
"""

import math

from fanin.planning.auto.gain import squared_gain
from fanin.planning.subject import Circumstances, Subject

MOST_CHANGE = 3.0
"""The sum that one step may reach: at a share of 0.22 the output moves by two thirds of itself."""

_WORTH_SAYING = 3e-3
"""Rates above are above those that anyone would try first."""


def post_norm_rate(circumstances: Circumstances) -> float | None:
    """Adam's largest learning rate for the post-norm streams of a model; None without any."""
    writers: dict[int, list[Subject]] = {}
    for subject in circumstances:
        if subject.writes_residual and subject.is_layer_weight and subject.role.post_norm:
            writers.setdefault(subject.role.stream_branches, []).append(subject)
    # A weight that several layers share moves once for each of them: count adds, not weights.
    change = sum(
        adds * (4 * adds) ** -0.25 * sum(map(_reach, group)) / len(group)
        for adds, group in writers.items()
    )
    return MOST_CHANGE / change if change else None


def _reach(subject: Subject) -> float:
    """Fan-in of a writer times the RMS that its input can have, before (4N)^(−¼): n · m."""
    squared, _ = squared_gain(subject.role.before)
    return subject.fans.fan_in / math.sqrt(squared)


def advice(circumstances: Circumstances) -> tuple[str, ...]:
    """What to train a post-norm model with, where its depth leaves little room."""
    rate = post_norm_rate(circumstances)
    if rate is None or rate > _WORTH_SAYING:
        return ()
    adds = max(s.role.stream_branches for s in circumstances if s.role.post_norm)
    return (
        f"post-norm, {adds} branches: without warm-up Adam takes a learning rate of {rate:.1e} at "
        "most. Each step moves every weight by about the rate, and all branches move the stream "
        "together; with N branches this rate falls as N^(−¾).",
    )
