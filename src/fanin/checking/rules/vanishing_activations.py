"""The signal shrinks from layer to layer until little of it reaches the output.

## What it does

Follows the tensors that every path from the inputs to the output passes, from the last
normalisation (or the first layer) to the last hidden layer, and compares their root mean square
(RMS) with where that stretch starts. Warns when it falls by more than 10×, an error by more than
1000×, beyond what chance does at this width: for width n and L layers log RMS wanders by
±1.5·√(5L/n) and falls by 5L/4n. Ahead of a normalisation the scale does not matter, except where
it is so small that the norm's ε swallows it. Branches that end in a residual sum, and the last
layer, may have any scale.

## Why is this bad?

The output hardly depends on the inputs, gradients shrink by the same factors, and biases or
rounding errors drown what is left. Each layer multiplies the second moment by
fan_in · Var(w) · E[φ²]; over L layers a factor of 0.5 becomes 0.5^L.

## Example

```python
layers = [layer for _ in range(30) for layer in (nn.Linear(256, 256), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(256, 10))
for module in model.modules():
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)   # He's std here would be 0.088
```

## Fix

`fanin.initialize(model, inputs)` reads the activation behind every layer and draws weights that
keep the RMS. Where a scale is wanted, put a normalisation behind it.

## References

* He et al., Delving Deep into Rectifiers, 2015
* Glorot & Bengio, Understanding the difficulty of training deep feedforward networks, 2010
* Hanin & Rolnick, How to start training: the effect of initialization and architecture, 2018
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.drift import ERROR_DRIFT, WARN_DRIFT, Drift, activation_drifts
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule
from fanin.checking.streams import Stream

_FIX = (
    "fanin.initialize(model, inputs) draws weights that keep the RMS from layer to layer; "
    "fanin.plan(model, inputs) shows them first."
)


class VanishingActivations(Rule):
    """Activations that shrink with depth."""

    code = "FAN101"
    name = "vanishing-activations"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a stream: the lowest point."""
        for stream in case.streams:
            fallen = [d for d in activation_drifts(stream) if d.below(WARN_DRIFT)]
            if fallen:
                yield self._drifted(min(fallen, key=lambda d: d.ratio))
            else:
                yield from self._swallowed(stream)

    def _drifted(self, drift: Drift) -> Finding:
        error = drift.below(ERROR_DRIFT)
        fall = "to exactly 0" if drift.after == 0 else f"{1 / drift.ratio:.3g}-fold"
        return self.finding(
            Severity.ERROR if error else Severity.WARNING,
            drift.end.where,
            f"the RMS of the signal falls {fall} over {drift.way}, from "
            f"{drift.before:.3g} at {drift.start.where!r} to {drift.after:.3g} at "
            f"{drift.end.where!r}.",
            measured={"rms": drift.after, "rms_at_start": drift.before, "ratio": drift.ratio},
            expected=f"within {WARN_DRIFT:g}× of the start, beyond what chance does at this width",
            fix=_FIX,
        )

    def _swallowed(self, stream: Stream) -> Iterator[Finding]:
        for before, norm in zip(stream.points, stream.points[1:], strict=False):
            rms = before.signal.rms
            if norm.norm_eps is None or before.is_norm or rms is None or rms == 0:
                continue
            if rms * rms < norm.norm_eps:
                yield self.finding(
                    Severity.WARNING,
                    before.where,
                    f"the signal reaches {norm.where!r} with an RMS of {rms:.3g}, whose square is "
                    f"below the norm's ε of {norm.norm_eps:.3g}: the norm cannot restore it.",
                    measured={"rms": rms, "eps": norm.norm_eps},
                    expected="a mean square well above the ε of the norm that reads it",
                    fix=_FIX,
                )
                return
