"""The loss does not depend on a parameter.

## What it does

Notes trained parameters that no path connects with the loss of this batch.

## Why is this bad?

It may be meant: a pooler that this task does not use, experts that were not chosen. Else it is a
layer that forward forgot. It costs memory, and distributed training stops at it unless told to
look for unused parameters.

## Example

```python
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.forgotten = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.used(x)
```

## Fix

Use it, delete it, or freeze it with `requires_grad_(False)`. `fanin.plan(model, inputs)` lists it
as unused.

## References

* PyTorch documentation, DistributedDataParallel: find_unused_parameters
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule


class UnusedParameter(Rule):
    """Parameters that the loss never reaches."""

    code = "FAN115"
    name = "unused-parameter"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One note for all of them."""
        parameters = case.signals.parameters.values()
        unused = [p.name for p in parameters if p.used is False and 0 not in p.shape]
        if not unused:
            return
        more = f" and {len(unused) - 5} more" if len(unused) > 5 else ""
        yield self.finding(
            Severity.NOTE,
            unused[0],
            f"the loss does not depend on {', '.join(unused[:5])}{more}.",
            measured={"parameters": float(len(unused))},
            expected="every trained parameter has a path to the loss",
            fix="Use, delete or freeze it; fanin.plan(model, inputs) lists what each parameter "
            "is for.",
        )
