"""Experts that are stacked in one tensor hold the same weights.

## What it does

Compares the slices of a weight along the axis that counts independent blocks (experts, stacked
adapters). A warning when slices with random numbers in them are exactly equal, an error when their
gradients are equal as well. Slices of one constant (a zero B of stacked adapters) are reported
only with equal gradients.

## Why is this bad?

Equal experts compute the same thing, so that the router learns nothing from choosing among them;
with a router that weighs them equally they never part. It happens when one expert is built and
copied.

## Example

```python
experts = torch.randn(1, 64, 64).repeat(8, 1, 1) / 8     # one draw, eight times
```

## Fix

`fanin.initialize(model, inputs)` draws every expert by itself, each with the fan-in of one expert.

## References

* Shazeer et al., Outrageously large neural networks, 2017
* Fedus, Zoph & Shazeer, Switch transformers, 2021
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.equality import equal_groups, stays_equal, unit_rows
from fanin.checking.findings import Finding, Severity
from fanin.checking.reading import WeightMatrix, weight_matrices
from fanin.checking.rule import Needs, Rule


class EqualExperts(Rule):
    """Stacked experts with the same weights."""

    code = "FAN202"
    name = "equal-experts"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a weight."""
        for matrix in weight_matrices(case):
            axis = matrix.axes.batch[0] if matrix.axes.batch else None
            if axis is None or matrix.tensor.shape[axis] < 2:
                continue
            slices = matrix.tensor.movedim(axis, 0).flatten(1)
            groups = equal_groups(slices)
            if groups:
                yield from self._judge(case, matrix, max(groups, key=len))

    def _judge(self, case: Case, matrix: WeightMatrix, group: list[int]) -> Iterator[Finding]:
        axis = matrix.axes.batch[0]
        first = matrix.tensor.select(axis, group[0])
        constant = bool((first == first.flatten()[0]).all())
        units = unit_rows(matrix.tensor, matrix.axes).shape[0] // matrix.tensor.shape[axis]
        corresponding = ([unit + units * e for e in group] for unit in range(units))
        equal_gradients = all(stays_equal(case, matrix, g) for g in corresponding)
        if constant and not equal_gradients:
            return
        total = matrix.tensor.shape[axis]
        yield self.finding(
            Severity.ERROR if equal_gradients else Severity.WARNING,
            matrix.name,
            f"{len(group)} of {total} blocks of {matrix.name!r} hold the same weights"
            f"{' and get the same gradients' if equal_gradients else ''}.",
            measured={"equal": float(len(group)), "blocks": float(total)},
            expected="a draw of its own for every block",
            fix="fanin.initialize(model, inputs) draws every expert by itself.",
        )
