"""Units of a layer are equal, and nothing will ever part them.

## What it does

Looks for units (rows of a linear weight, filters of a convolution) whose incoming weights and
biases are exactly equal, and then asks whether their gradients differ, at the start or, where those
are zero, after simulated steps of gradient descent. Units with equal weights *and* equal gradients
stay equal for ever; so, but for their biases, do units that the next layer weighs alike. An error
when they are half of a layer's units or more, a warning from a tenth on. What is equal at the
start and parts at once is left alone: a zero head, zero branch ends, LoRA's B, modulation. Biases,
norm scales and embedding tables are no units. Without a batch only layers of one constant are
reported, and zeros only when the whole model is zero.

## Why is this bad?

A layer of n equal units has the power of one. All zeros, all ones and any constant do it, in every
layer between two others, and no optimiser without noise gets out.

## Example

```python
model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4))
for parameter in model.parameters():
    nn.init.zeros_(parameter)        # or ones_, or constant_
```

## Fix

Draw weights at random: `fanin.initialize(model, inputs)`, or any of `fanin.SCHEMES` such as
"kaiming_normal". Zero biases are fine.

## References

* Goodfellow, Bengio & Courville, Deep Learning, 2016, section 8.4
"""

from collections.abc import Iterator

import torch

from fanin.checking.case import Case
from fanin.checking.equality import equal_groups, equal_outgoing, stays_equal, unit_rows
from fanin.checking.findings import Finding, Severity
from fanin.checking.reading import WeightMatrix, weight_matrices
from fanin.checking.rule import Needs, Rule

_WARN, _ERROR = 0.1, 0.5
_FIX = (
    "Draw the weights at random: fanin.initialize(model, inputs), or "
    'fanin.initialize(model, recipe="kaiming_normal").'
)


class EqualUnits(Rule):
    """Equal units that stay equal."""

    code = "FAN201"
    name = "equal-units"
    needs = Needs.WEIGHTS

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a weight."""
        if case.simulate is None:
            yield from self._by_weights_alone(case)
            return
        parameters = dict(case.model.named_parameters())
        for matrix in weight_matrices(case):
            rows = unit_rows(matrix.tensor, matrix.axes)
            if rows.shape[0] < 2 or not case.signals.parameters[matrix.name].used:
                continue
            alike = equal_groups(rows)
            if not alike:
                continue
            outgoing = [g for g in alike if equal_outgoing(case, matrix, g)]
            alike_with_bias = equal_groups(_with_bias(rows, matrix.name, parameters))
            staying = [g for g in alike_with_bias if stays_equal(case, matrix, g)]
            together = {i for g in staying for i in g}
            weighed_alike = {i for g in outgoing for i in g}
            if len(together) >= len(weighed_alike) and len(together) > _WARN * rows.shape[0]:
                yield self._equal(matrix, len(together), rows.shape[0], "equal gradients")
            elif len(weighed_alike) > _WARN * rows.shape[0]:
                yield self._equal(matrix, len(weighed_alike), rows.shape[0], "outgoing weights")

    def _equal(self, matrix: WeightMatrix, count: int, total: int, what: str) -> Finding:
        constant = bool((matrix.tensor == matrix.tensor.flatten()[0]).all())
        value = f", all {float(matrix.tensor.flatten()[0]):g}" if constant else ""
        end = (
            "equal gradients: they will never part."
            if what == "equal gradients"
            else "equal outgoing weights: only their biases tell them apart."
        )
        return self.finding(
            Severity.ERROR if count >= _ERROR * total else Severity.WARNING,
            matrix.name,
            f"{count} of {total} units of {matrix.name!r} have equal weights{value}, and {end}",
            measured={"equal_units": float(count), "units": float(total)},
            expected="no two units with equal weights and equal gradients or outgoing weights",
            fix=_FIX,
        )

    def _by_weights_alone(self, case: Case) -> Iterator[Finding]:
        matrices = [m for m in weight_matrices(case) if unit_rows(m.tensor, m.axes).shape[0] > 1]
        constant = [m for m in matrices if bool((m.tensor == m.tensor.flatten()[0]).all())]
        all_zero = len(constant) == len(matrices)
        for matrix in constant:
            value = float(matrix.tensor.flatten()[0])
            # One zero matrix is how a head or a branch end should start; only a batch can tell.
            if value == 0.0 and not all_zero:
                continue
            yield self.finding(
                Severity.ERROR,
                matrix.name,
                f"every element of {matrix.name!r} is {value:g}: its units are equal.",
                measured={"value": value},
                expected="random weights; pass inputs to see which zeros are harmless",
                fix=_FIX,
            )


def _with_bias(
    rows: torch.Tensor, name: str, parameters: dict[str, torch.nn.Parameter]
) -> torch.Tensor:
    """(units, incoming weights), the bias of each unit as a last column where there is one."""
    bias = parameters.get(name.removesuffix("weight") + "bias")
    if name.endswith("weight") and bias is not None and bias.shape == rows.shape[:1]:
        return torch.cat([rows, bias.detach().to(rows.dtype)[:, None]], dim=1)
    return rows
