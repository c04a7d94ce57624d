"""Where the norms of a deep chain without skips start, so that its gradients keep their size.

What a layer of norm and activation does to gradients no weights can change, for the norm undoes
them (``norm_runs``).  Its own bias and scale can.  The factor E[φ′²]/Var φ is 1 for a straight
line, and a batch norm that shifts its signal by β shows the activation its straight part: behind
β = 1.6 ReLU's factor is 1.04 instead of 1.47, and 50 layers multiply gradients by e instead of
15,000 (by the formula: measured, up to e^1.5 over 70 layers, for samples come to differ in size).
The shift itself costs nothing, for the next batch norm takes it off again.  Where the straight
part is in the middle, as tanh's, a smaller scale does the same.  It is what activations are shaped
for in nets without skips or norms (Martens et al., Deep Kernel Shaping, 2021), done by parameters
that are there.

Set from theory, then tried: scikit-learn's digits, width 64, ReLU and tanh, 6 to 100 layers, e-fold
growth against 1.3, 10 and none, SGD and Adam.  50 layers of batch norm and ReLU reached 25 per cent
at best in 200 steps from β = 0, and 91 from these.  Convolutions carry less of a shift: padding
lacks it, and means that run behind must follow it.  Of 50 layers of 3 × 3, from 0, 0.5, 0.8, 1.15
and 1.65, those from 0.8 and 1.15 (tenfold growth) learned best.
"""

import math
from collections.abc import Mapping
from itertools import pairwise

from fanin.planning.auto.norm_runs import NormRun, norm_runs
from fanin.planning.subject import Circumstances, Subject, once_per_model

MOST_GROWTH = 1.0
"""Nats by which gradients may grow or shrink in size over a run: a factor of e."""

MOST_SPATIAL_GROWTH = math.log(10)
"""The same where convolutions read several places: the change from which the check warns."""

_SHIFTS = tuple(k / 20 for k in range(1, 81))
_SCALES = tuple(k / 20 for k in range(19, 0, -1))

Start = tuple[float, float]
"""What the norms of a run multiply by and add."""

NEUTRAL: Start = (1.0, 0.0)


def start_of_norms(run: NormRun) -> Start:
    """Scale and shift with which gradients keep their size; (1, 0) where they do anyway, or cannot.

    The smallest shift behind batch norms, else the largest scale below 1.
    """
    spatial = any(layer.spatial for layer in run.layers)
    most = 2 * (MOST_SPATIAL_GROWTH if spatial else MOST_GROWTH) / len(run.layers)
    tried = [(1.0, shift) for shift in _SHIFTS] if run.batch else []
    tried = [NEUTRAL, *tried, *((scale, 0.0) for scale in _SCALES)]
    return next((s for s in tried if abs(_logarithm(run, s)) <= most), NEUTRAL)


def growth(run: NormRun, start: Start) -> float:
    """Nats by which gradients change in size over the run, with its adjustable norms at a start."""
    moved = len(adjusted(run, start))
    rest = len(run.layers) - moved
    return (moved * _logarithm(run, start) + rest * _logarithm(run, NEUTRAL)) / 2


def _logarithm(run: NormRun, start: Start) -> float:
    return math.log(max(run.factor(*start), 1e-30))


def adjusted(run: NormRun, start: Start) -> list[Subject]:
    """The norms' parameters that take a start: those read by the run's next weight.

    Not the last norm's, whose signal another kind of layer reads; nor one behind its activation.
    """
    layers = [layer for layer in run.layers[:-1] if layer.ahead]
    wanted = [layer.scale if start[0] != 1 else layer.shift for layer in layers]
    return [s for s in wanted if s is not None and not s.frozen]


@once_per_model
def own_starts(circumstances: Circumstances) -> Mapping[str, tuple[float, str]]:
    """The values that parameters of norms in runs get and why, by name; not those at 1 and 0."""
    starts: dict[str, tuple[float, str]] = {}
    for run in norm_runs(circumstances):
        start = start_of_norms(run)
        if start != NEUTRAL:
            value = start[0] if start[0] != 1 else start[1]
            starts |= {s.name: (value, _reason(run, start)) for s in adjusted(run, start)}
    return starts


@once_per_model
def of_started_chains(circumstances: Circumstances) -> frozenset[str]:
    """Names of the weights that read a norm which starts so."""
    starts = own_starts(circumstances)
    return frozenset(
        reader.weight
        for run in norm_runs(circumstances)
        for layer, reader in pairwise(run.layers)
        if any(s is not None and s.name in starts for s in (layer.scale, layer.shift))
    )


def _reason(run: NormRun, start: Start) -> str:
    value = f"{start[0]:g}" if start[0] != 1 else f"{start[1]:g}"
    return (
        f"norm of a chain of {len(run.layers)} without skips: {value}, where {run.activation.name} "
        f"is straighter: gradients change by {run.factor(*start):.3f} a layer, not "
        f"{run.factor():.3f}"
    )
