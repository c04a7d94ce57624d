"""The forward pass is finite and a gradient is not.

## What it does

Looks at the gradient of every parameter when the weights, the activations and the loss are
finite (otherwise FAN106 or FAN107 names the cause).

## Why is this bad?

After one step the weight is NaN. Typical causes are √ or a norm at 0, whose slope is infinite, and
`torch.where` over a branch whose gradient is NaN times 0.

## Example

```python
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x):
        return self.layer(x).square().sum(1).sqrt()    # d√q/dq is infinite at q = 0
```

## Fix

Add ε under the root, or start the layer in front of it at random:
`fanin.initialize(model, inputs, overrides={"layer.weight": "kaiming_normal"})`.

## References

* PyTorch documentation, Autograd mechanics: gradients for non-differentiable functions
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule


class NonFiniteGradient(Rule):
    """NaN or infinity in gradients alone."""

    code = "FAN108"
    name = "non-finite-gradient"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding for all parameters."""
        parameters = case.signals.parameters.values()
        loss = case.signals.loss
        if not all(p.finite for p in parameters) or (
            loss is not None and not abs(loss) < float("inf")
        ):
            return
        points = [p.signal for stream in case.streams for p in stream.points]
        if not all(signal.finite for signal in points):
            return
        bad = [p.name for p in parameters if not p.gradient_finite]
        if bad:
            yield self.finding(
                Severity.ERROR,
                bad[-1],
                f"the gradients of {len(bad)} parameters hold NaN or infinity, "
                f"{bad[-1]!r} among them, while the forward pass is finite.",
                measured={"parameters": float(len(bad))},
                expected="finite gradients",
                fix="Add ε under roots and divisions, or start the layer in front of them at "
                'random: fanin.initialize(model, inputs, "kaiming_normal").',
            )
