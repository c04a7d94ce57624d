"""A weight has no gradient, and will not have one after the next steps either.

## What it does

Finds trained weights (two or more dimensions) that the loss depends on and whose gradient is
exactly zero: at the start, *and* after simulated steps of gradient descent, taken on copies for as
long as each wakes another parameter. A zero gradient at the start alone is normal: LoRA's A, the
layers below a zero head, branches behind α = 0 or a zero last layer all wake within a few steps.
Weights that this batch did not reach (idle experts) are left out. With fewer than 32 samples a
minority of stuck weights is only a note: a few ReLUs may be off for all of them.

## Why is this bad?

The weight will never learn. Either everything behind it is zero or dead, or two factors of a
product are both zero, so that neither gets a gradient from the other.

## Example

```python
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
nn.init.zeros_(model[2].weight)   # two zero matrices in a row: each waits for the other
nn.init.zeros_(model[4].weight)
```

## Fix

Never start two factors of one product at zero: `fanin.initialize(model, inputs)` zeroes only the
last layer of a branch. If units are dead, see FAN109.

## References

* Zhang, Dauphin & Ma, Fixup initialization, 2019
* Hu et al., LoRA, 2021
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.reading import reached_by_batch
from fanin.checking.rule import Needs, Rule

_ENOUGH_SAMPLES = 32


class StuckParameter(Rule):
    """Weights whose gradient stays zero."""

    code = "FAN105"
    name = "stuck-parameter"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding for all of them; an error when they are half of all weights or more."""
        weights = {n: p for n, p in case.signals.parameters.items() if len(p.shape) > 1 and p.used}
        still = [name for name, p in weights.items() if p.gradient_rms == 0.0]
        if not still:
            return
        woke = case.simulation.woke
        stuck = [
            name
            for name in still
            if name in woke and woke[name] is None and reached_by_batch(case, name)
        ]
        if not stuck:
            return
        shown = ", ".join(stuck[:5]) + (f" and {len(stuck) - 5} more" if len(stuck) > 5 else "")
        severity = Severity.WARNING
        if 2 * len(stuck) >= len(weights):
            severity = Severity.ERROR
        elif case.signals.samples < _ENOUGH_SAMPLES:
            severity = Severity.NOTE
        yield self.finding(
            severity,
            stuck[0],
            f"{len(stuck)} of {len(weights)} weights have a gradient of exactly zero that no "
            f"step wakes: {shown}.",
            measured={"stuck": float(len(stuck)), "weights": float(len(weights))},
            expected="a gradient at the start, or one or a few steps after it",
            fix="Let at most one factor of each product start at zero: fanin.initialize(model, "
            "inputs) zeroes only the last layer of a branch.",
        )
