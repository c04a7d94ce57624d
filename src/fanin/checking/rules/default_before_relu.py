"""Layers in front of ReLUs have PyTorch's default weights, and the network is deep enough to mind.

## What it does

Finds layers on the main stream whose activation is a ReLU (or a relative of it) and whose measured
std is √(1/(3·fan_in)), that of U(±1/√fan_in), with no norm behind them. A note when together they
shrink the RMS by more than 10× (3 layers), a warning beyond 100× (6 layers) when the signal or its
gradient was indeed measured to fall.

## Why is this bad?

`nn.Linear` and `nn.Conv2d` call `kaiming_uniform_` with a = √5, which is not He's scheme: it gives
a variance of 1/(3·fan_in), a sixth of what ReLUs need. Every layer divides the signal's RMS and the
gradient's by √6 = 2.45, until the biases, drawn from the same interval, drown the signal.

## Example

```python
layers = [layer for _ in range(10) for layer in (nn.Linear(256, 256), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(256, 10))
```

## Fix

`fanin.initialize(model, inputs, "kaiming_normal")`, or `fanin.initialize(model, inputs)` to choose
by depth.

## References

* pytorch/pytorch issues 15314, 57109 and 18182, on a = √5
* He et al., Delving Deep into Rectifiers, 2015
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.drift import WARN_DRIFT
from fanin.checking.findings import Finding, Severity
from fanin.checking.gains import RELU_LIKE, exposed_layers, relu_drift, shrinks, torch_default_std
from fanin.checking.rule import Needs, Rule

_WARN = 100.0
_FELT = 5.0


class DefaultBeforeRelu(Rule):
    """PyTorch's default std where He's is needed."""

    code = "FAN303"
    name = "default-before-relu"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a stream."""
        for stream in case.streams:
            layers = exposed_layers(stream, RELU_LIKE, torch_default_std)
            if not layers or relu_drift(layers) > 1 / WARN_DRIFT:
                continue
            drift = relu_drift(layers)
            felt = drift < 1 / _WARN and shrinks(stream, _FELT)
            yield self.finding(
                Severity.WARNING if felt else Severity.NOTE,
                layers[0].weight,
                f"{len(layers)} layers in front of {layers[0].activation} have PyTorch's default "
                f"std, a sixth of He's variance; together they shrink the signal to {drift:.3g} "
                "of what it was.",
                measured={"layers": float(len(layers)), "factor": drift},
                expected="std √(2/fan_in) in front of ReLUs (He), or a norm behind them",
                fix='fanin.initialize(model, inputs, "kaiming_normal").',
            )
