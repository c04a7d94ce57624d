"""NaN or infinity appears while the model runs.

## What it does

Looks at the model's output, its loss and all that every path passes. If any of them holds NaN or
infinity, it names the first operation that made one from finite inputs. Minus infinity in masks of
attention is what it should be and is left out.

## Why is this bad?

The loss is NaN and so is every weight after the first step. At the start the cause is mostly an
explosion beyond the range of the dtype (65504 in half precision), a division by zero, or the
logarithm of zero.

## Example

```python
model = nn.Sequential(*[nn.Linear(256, 256) for _ in range(100)])
for module in model:
    nn.init.normal_(module.weight)     # each layer multiplies the RMS by 16: 16¹⁰⁰ > 10³⁸
```

## Fix

`fanin.initialize(model, inputs)` keeps the RMS near 1 at any depth.

## References

* Micikevicius et al., Mixed precision training, 2018
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule

# They put minus infinity where attention must not look.
_MASKS = frozenset(
    {"masked_fill", "masked_fill_", "where", "full", "full_like", "fill_", "triu", "tril"}
    | {"new_full", "scalar_tensor", "_to_copy", "clone", "expand", "view", "slice", "zeros"}
)


class NonFiniteActivation(Rule):
    """NaN or infinity in activations or in the loss."""

    code = "FAN107"
    name = "non-finite-activation"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding: the first operation that made one."""
        assert case.graph is not None
        signals = case.signals.tensors
        loss = case.signals.loss
        watched = [p.signal for stream in case.streams for p in stream.points]
        watched += [signals[v] for v in case.graph.outputs if v in signals]
        bad_loss = loss is not None and not abs(loss) < float("inf")
        if not bad_loss and all(signal.finite for signal in watched):
            return
        for operation in case.graph.operations:
            made = [signals[v] for v in operation.outputs if v in signals]
            if operation.name in _MASKS or all(signal.finite for signal in made):
                continue
            if all(signals[v].finite for v in operation.inputs if v in signals):
                reads = [signals[v].max_abs or 0.0 for v in operation.inputs if v in signals]
                yield self._finding(operation.module, operation.name, max(reads, default=0.0))
                return
        if bad_loss:
            yield self._finding("", "loss", 0.0)

    def _finding(self, module: str, operation: str, largest: float) -> Finding:
        place = f"in module {module!r}" if module else "in the model itself"
        return self.finding(
            Severity.ERROR,
            module,
            f"{operation!r} {place} is the first to return NaN or infinity; the largest value it "
            f"read was {largest:.3g}.",
            measured={"largest_input": largest},
            expected="finite activations and a finite loss",
            fix="fanin.initialize(model, inputs) keeps the RMS near 1; if it stays, the fault lies "
            "in the operation (a division by zero, the logarithm of zero).",
        )
