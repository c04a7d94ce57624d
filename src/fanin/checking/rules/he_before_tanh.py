"""Layers in front of tanh were drawn by He's rule, and the network is deep enough to mind.

## What it does

Finds layers on the main stream whose activation is tanh, erf or hardtanh and whose measured std is
√(2/fan_in) within sampling error (and not Xavier's), with no norm behind them. Warns from 10 such
layers on.

## Why is this bad?

He's factor 2 makes up for the half that a ReLU cuts off. tanh cuts nothing off around zero: with a
gain of √2 it settles in the chaotic phase, where nearby inputs are driven apart and gradients grow
with every layer. Gain 1, best with orthogonal weights, is the edge of chaos.

## Example

```python
layers = [layer for _ in range(30) for layer in (nn.Linear(256, 256), nn.Tanh())]
model = nn.Sequential(*layers, nn.Linear(256, 10))
for module in model.modules():
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight)
```

## Fix

`fanin.initialize(model, inputs, "xavier_normal")` or `"orthogonal"`; `fanin.initialize(model,
inputs)` chooses by depth.

## References

* Schoenholz et al., Deep information propagation, 2017
* Pennington, Schoenholz & Ganguli, Resurrecting the sigmoid, 2017
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.gains import exposed_layers, has_std, he_std, xavier_std
from fanin.checking.rule import Needs, Rule

_TANH_LIKE = frozenset({"tanh", "erf", "hardtanh"})
_DEEP = 10


class HeBeforeTanh(Rule):
    """He's std where gain 1 is needed."""

    code = "FAN302"
    name = "he-before-tanh"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a stream."""
        for stream in case.streams:
            layers = [
                layer
                for layer in exposed_layers(stream, _TANH_LIKE, he_std)
                if not has_std(layer, xavier_std(layer))
            ]
            if len(layers) < _DEEP:
                continue
            yield self.finding(
                Severity.WARNING,
                layers[0].weight,
                f"{len(layers)} layers in front of {layers[0].activation} have He's std, a gain "
                "of √2 where 1 is stable.",
                measured={"layers": float(len(layers))},
                expected="std √(1/fan_in) in front of tanh, orthogonal where the network is deep",
                fix='fanin.initialize(model, inputs, "orthogonal").',
            )
