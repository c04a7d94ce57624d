"""ReLU units are zero on every sample of the batch.

## What it does

Counts, behind every ReLU, the units (channels of a convolution) that are zero on all samples and
positions of the batch. In deep networks samples grow alike, and then a unit is on or off for all
of them together; the share that this likeness explains is allowed for (collapse has its own rule,
FAN111). Warns above 10 % beyond it, an error above 50 %. It needs 256 observations of each unit;
with 16 or more only a majority of dead units is reported, as a warning.

## Why is this bad?

A unit that is off for every sample has no gradient, so neither its weights nor its bias ever move:
the layer is narrower than it looks. Large negative biases, inputs that are all negative behind
non-negative weights, and a first step that was too large are the usual causes.

## Example

```python
model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
nn.init.constant_(model[0].bias, -5.0)
```

## Fix

`fanin.initialize(model, inputs, overrides={"*bias": "zeros"})`: weights of mean zero, and zero
biases (without the override biases that you set yourself are kept). A leaky ReLU cannot die.

## References

* Lu et al., Dying ReLU and initialization, 2020
"""

import math
from collections.abc import Iterator
from statistics import NormalDist

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.reading import affected
from fanin.checking.rule import Needs, Rule
from fanin.signals import LayerSignal

ENOUGH_OBSERVATIONS = 256
FEWEST_OBSERVATIONS = 16
_WARN, _ERROR = 0.1, 0.5


class DeadUnits(Rule):
    """ReLUs that are zero on all of the batch."""

    code = "FAN109"
    name = "dead-units"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding for the model: its worst layer, and how many others there are."""
        watched = [layer for layer in case.signals.layers if layer.dead_share is not None]
        bad = [(self._excess(case, layer), layer) for layer in watched]
        bad = [(excess, layer) for excess, layer in bad if self._reported(excess, layer)]
        if not bad:
            return
        _, worst = max(bad, key=lambda pair: pair[1].dead_share or 0.0)
        share, seen = worst.dead_share or 0.0, worst.observations or 0
        error = share > _ERROR and seen >= ENOUGH_OBSERVATIONS
        yield self.finding(
            Severity.ERROR if error else Severity.WARNING,
            worst.weight,
            f"{share:.0%} of the units behind {worst.weight!r} are zero on all of the batch "
            f"({seen} observations each); so it is {affected([p[1] for p in bad], len(watched))} "
            "with a ReLU.",
            measured={"dead_share": share, "observations": float(seen), "layers": float(len(bad))},
            expected=f"at most {_WARN:.0%} beyond what the likeness of the samples explains",
            fix='fanin.initialize(model, inputs, overrides={"*bias": "zeros"}), or a leaky ReLU, '
            "which cannot die.",
        )

    def _reported(self, excess: float, layer: LayerSignal) -> bool:
        seen, share = layer.observations or 0, layer.dead_share or 0.0
        if seen >= ENOUGH_OBSERVATIONS:
            return excess > _WARN
        return seen >= FEWEST_OBSERVATIONS and share > _ERROR and excess > _WARN

    def _excess(self, case: Case, layer: LayerSignal) -> float:
        assert case.graph is not None
        before = case.graph.producer[layer.activated].inputs[0]
        signal = case.signals.tensors.get(before)
        likeness = signal.correlation if signal is not None else None
        allowed = share_off_together(likeness or 0.0, case.signals.samples)
        units = max(1, *layer.shape[:2])
        chance = 3 * math.sqrt(allowed * (1 - allowed) / units)
        return (layer.dead_share or 0.0) - allowed - chance


def share_off_together(correlation: float, samples: int) -> float:
    """Share of healthy units that are off for all of ``samples`` with this mean cosine.

    Pre-activations √c·z + √(1−c)·e with z common to all samples are negative together when
    z < −√((1−c)/c)·max e; max e of n normal numbers is near the (1 − 1/(n+1)) quantile.

    Examples:
        >>> round(share_off_together(0.95, 256), 2), round(share_off_together(0.0, 256), 2)
        (0.27, 0.0)
    """
    if correlation <= 0 or samples < 1:
        return 0.0
    normal = NormalDist()
    highest = normal.inv_cdf(1 - 1 / (samples + 1))
    spread = math.sqrt(max(0.0, 1 - correlation) / correlation)
    return normal.cdf(-spread * max(0.0, highest))
