"""Layers in front of ReLUs were drawn by Xavier's rule, and the network is deep enough to mind.

## What it does

Finds layers on the main stream whose activation is a ReLU (or a relative of it) and whose measured
std is √(2/(fan_in + fan_out)) within sampling error, with no norm behind them to forget the scale.
Warns when together they shrink the RMS by more than 10×: about 7 square layers; a note when
something else (a sum over neighbours) was measured to make up for it.

## Why is this bad?

A ReLU lets half of the second moment through. Xavier's rule was made for activations that are
linear around zero; before ReLUs each square layer loses a factor √2 of RMS, 30 of them 33,000.

## Example

```python
layers = [layer for _ in range(30) for layer in (nn.Linear(256, 256), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(256, 10))
for module in model.modules():
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(module.bias)
```

## Fix

`fanin.initialize(model, inputs, "kaiming_normal")`; for more than a few dozen layers
`fanin.initialize(model, inputs)`, which chooses mirrored orthogonal weights.

## References

* He et al., Delving Deep into Rectifiers, 2015, section 2.2
* Glorot & Bengio, Understanding the difficulty of training deep feedforward networks, 2010
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.drift import WARN_DRIFT
from fanin.checking.findings import Finding, Severity
from fanin.checking.gains import RELU_LIKE, exposed_layers, relu_drift, shrinks, xavier_std
from fanin.checking.rule import Needs, Rule

_FELT = 5.0


class XavierBeforeRelu(Rule):
    """Xavier's std where He's is needed."""

    code = "FAN301"
    name = "xavier-before-relu"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a stream."""
        for stream in case.streams:
            layers = exposed_layers(stream, RELU_LIKE, xavier_std)
            if not layers or relu_drift(layers) > 1 / WARN_DRIFT:
                continue
            yield self.finding(
                Severity.WARNING if shrinks(stream, _FELT) else Severity.NOTE,
                layers[0].weight,
                f"{len(layers)} layers in front of {layers[0].activation} have Xavier's std; "
                f"together they shrink the signal's RMS to {relu_drift(layers):.3g} of what it "
                "was.",
                measured={"layers": float(len(layers)), "factor": relu_drift(layers)},
                expected="std √(2/fan_in) in front of ReLUs (He), or a norm behind them",
                fix='fanin.initialize(model, inputs, "kaiming_normal").',
            )
