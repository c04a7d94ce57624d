"""A parameter holds NaN or infinity.

## What it does

Looks at every element of every parameter.

## Why is this bad?

Whatever the element touches becomes NaN too, and after one step the whole model. The cause is
mostly memory that was never filled (`to_empty`, `torch.empty`) or a scheme with an impossible std.

## Example

```python
model = nn.Linear(4, 4, device="meta").to_empty(device="cpu")   # whatever the memory held
```

## Fix

`fanin.initialize(model, inputs)` fills every parameter and lists each in its ledger.

## References

* PyTorch documentation, torch.nn.Module.to_empty
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule


class NonFiniteWeight(Rule):
    """NaN or infinity among the weights."""

    code = "FAN106"
    name = "non-finite-weight"
    needs = Needs.WEIGHTS

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a parameter."""
        for signal in case.signals.parameters.values():
            if not signal.finite:
                yield self.finding(
                    Severity.ERROR,
                    signal.name,
                    f"{signal.name!r} holds NaN or infinity.",
                    measured={},
                    expected="finite values",
                    fix="fanin.initialize(model, inputs) fills every parameter; its ledger shows "
                    "what each one got.",
                )
