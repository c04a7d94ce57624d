"""The gradient grows on its way back, so that the first layers move far too much.

## What it does

Compares the gradient of the loss with respect to the *activations* at the first and at the last
hidden point of the stream that every path passes; see FAN103 for how. Warns above 10×, an error
above 1000×, beyond the chance of this width. Where norms stand between, the limits are 10⁴ and
10⁶: weights in front of a norm move by their relative change, which evens gradients out, and
BatchNorm ResNets of 50 to 100 layers train well with ratios of 100 to 1000.

## Why is this bad?

The first layers are torn apart by a learning rate that suits the last ones. A growing gradient
also means that nearby inputs are driven apart: the network starts in the chaotic phase. Norms do
not prevent it: a plain BatchNorm-ReLU stack grows gradients by √(π/(π−1)) = 1.21 a layer.

## Example

```python
layers = [layer for _ in range(50) for layer in (nn.Linear(64, 64), nn.Tanh())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
for module in model.modules():
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=3 / 8)    # gain 3: chaotic
```

## Fix

`fanin.initialize(model, inputs)`; skips where the depth comes with BatchNorm.

## References

* Schoenholz et al., Deep information propagation, 2017
* Yang et al., A mean field theory of batch normalization, 2019
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.drift import Drift
from fanin.checking.findings import Finding
from fanin.checking.gradients import find_drifting_gradients
from fanin.checking.rule import Needs, Rule

# As shipped, ResNet-50 and ResNet-101 (BatchNorm, batch 8) show 250 and 1100.
_ALLOWED_BY_NORMS = 1e3


class ExplodingGradients(Rule):
    """Gradients that grow towards the first layers."""

    code = "FAN104"
    name = "exploding-gradients"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a stream."""
        return find_drifting_gradients(self, case, Drift.above, _ALLOWED_BY_NORMS)
