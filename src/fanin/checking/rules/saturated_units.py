"""Sigmoid or tanh units stand where their slope is next to zero.

## What it does

Measures the share of elements behind sigmoid, tanh, erf and their hard forms whose slope |φ'| is
below 0.05 (|tanh| above 0.975; sigmoid below 0.053 or above 0.947). Warns above 20 %, an error
above 50 %. Gates, which multiply other data, and the model's output are left out: they may well
be shut.

## Why is this bad?

A saturated unit passes less than a twentieth of the gradient. Weights that are too large, or
inputs that were not normalised, put units there before training has begun.

## Example

```python
model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
nn.init.normal_(model[0].weight, std=1.0)    # pre-activations of RMS 8
```

## Fix

Normalise the inputs, and scale the weights to the activation: `fanin.initialize(model, inputs)`.

## References

* LeCun et al., Efficient BackProp, 1998
* Glorot & Bengio, Understanding the difficulty of training deep feedforward networks, 2010
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.reading import affected, multiplies
from fanin.checking.rule import Needs, Rule

_WARN, _ERROR = 0.2, 0.5


class SaturatedUnits(Rule):
    """Sigmoid-like units with no slope."""

    code = "FAN110"
    name = "saturated-units"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding for the model: its worst layer, and how many others there are."""
        assert case.graph is not None
        watched = [
            layer
            for layer in case.signals.layers
            if layer.saturated_share is not None
            and layer.activated not in case.graph.outputs
            and not multiplies(case, layer.activated)
        ]
        bad = [layer for layer in watched if (layer.saturated_share or 0.0) > _WARN]
        if not bad:
            return
        worst = max(bad, key=lambda layer: layer.saturated_share or 0.0)
        share = worst.saturated_share or 0.0
        yield self.finding(
            Severity.ERROR if share > _ERROR else Severity.WARNING,
            worst.weight,
            f"{share:.0%} of the {worst.activation} units behind {worst.weight!r} have a slope "
            f"below 0.05; so it is {affected(bad, len(watched))} of that kind.",
            measured={"saturated_share": share, "layers": float(len(bad))},
            expected=f"at most {_WARN:.0%}",
            fix="Normalise the inputs, and scale the weights to the activation with "
            "fanin.initialize(model, inputs).",
        )
