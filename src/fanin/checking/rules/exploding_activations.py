"""The signal grows from layer to layer.

## What it does

Follows the tensors that every path from the inputs to the output passes, from the last
normalisation (or the first layer) to the last hidden layer. Warns when their root mean square
(RMS) grows by more than 10×, an error by more than 1000×, beyond the ±1.5·√(5L/n) nats that
chance does at width n over L layers. Ahead of a normalisation the scale does not matter.

## Why is this bad?

Gradients grow by the same factors, the softmax or loss saturates, and half precision overflows at
65504. The first update then moves the weights by many times their size.

## Example

```python
layers = [layer for _ in range(30) for layer in (nn.Linear(256, 256), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(256, 10))
for module in model.modules():
    if isinstance(module, nn.Linear):
        nn.init.uniform_(module.weight, -1, 1)   # each layer multiplies the RMS by 6.5
```

## Fix

`fanin.initialize(model, inputs)` draws weights that keep the RMS. In residual networks without
norms it scales the branches by depth; a normalisation in front of the head also helps.

## References

* He et al., Delving Deep into Rectifiers, 2015
* Hanin & Rolnick, How to start training: the effect of initialization and architecture, 2018
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.drift import ERROR_DRIFT, WARN_DRIFT, activation_drifts
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule


class ExplodingActivations(Rule):
    """Activations that grow with depth."""

    code = "FAN102"
    name = "exploding-activations"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a stream: the highest point."""
        for stream in case.streams:
            grown = [d for d in activation_drifts(stream) if d.above(WARN_DRIFT)]
            if not grown:
                continue
            drift = max(grown, key=lambda d: d.ratio)
            yield self.finding(
                Severity.ERROR if drift.above(ERROR_DRIFT) else Severity.WARNING,
                drift.end.where,
                f"the RMS of the signal grows {drift.ratio:.3g}-fold over {drift.way}, "
                f"from {drift.before:.3g} at {drift.start.where!r} to {drift.after:.3g} at "
                f"{drift.end.where!r}.",
                measured={"rms": drift.after, "rms_at_start": drift.before, "ratio": drift.ratio},
                expected=f"within {WARN_DRIFT:g}× of the start, beyond chance at this width",
                fix="fanin.initialize(model, inputs) draws weights that keep the RMS from layer "
                "to layer; fanin.plan(model, inputs) shows them first.",
            )
