"""The gradient shrinks on its way back, so that the first layers hardly learn.

## What it does

Compares the gradient of the loss with respect to the *activations* at the first and at the last
hidden point of the stream that every path passes. (Gradients of weights differ by shape and prove
nothing.) Gradients are taken as Frobenius norms; ahead of a normalisation, which makes them
inverse to the scale it forgets, they are multiplied by that scale. Warns below 1/10, an error
below 1/1000, beyond the chance of this width; three times lower where norms stand between, which
take out of a gradient what points along the scale and the mean.

## Why is this bad?

One learning rate cannot serve layers whose gradients differ by orders of magnitude. With SGD the
first layers stand still; Adam rescales them, and with them their noise.

## Example

```python
layers = [layer for _ in range(20) for layer in (nn.Linear(64, 64), nn.Sigmoid())]
model = nn.Sequential(*layers, nn.Linear(64, 10))      # σ' is at most 1/4
```

## Fix

`fanin.initialize(model, inputs)`. For deep networks without skips it chooses orthogonal or
mirrored weights, which pass gradients on unchanged; for sigmoids, which no weights make stable, it
says that a norm, a skip or another activation is needed.

## References

* Glorot & Bengio, Understanding the difficulty of training deep feedforward networks, 2010
* Saxe, McClelland & Ganguli, Exact solutions to the nonlinear dynamics of learning, 2013
* Schoenholz et al., Deep information propagation, 2017
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.drift import Drift
from fanin.checking.findings import Finding
from fanin.checking.gradients import find_drifting_gradients
from fanin.checking.rule import Needs, Rule

# A tied post-norm decoder of two healthy layers loses a factor of 10 in this way.
_ALLOWED_BY_NORMS = 3.0


class VanishingGradients(Rule):
    """Gradients that shrink towards the first layers."""

    code = "FAN103"
    name = "vanishing-gradients"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a stream."""
        return find_drifting_gradients(self, case, Drift.below, _ALLOWED_BY_NORMS)
