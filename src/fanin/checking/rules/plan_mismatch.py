"""A parameter is not what the plan says.

## What it does

Compares the mean, the std and the bounds of every tensor that the plan initialises with those its
scheme promises. What chance explains is allowed for: a model drawn as planned is reported once in
a million. Zeros, ones and constants must be exact, and rows that the plan zeroes must be zero.
Parametrised weights are compared as the model uses them. What the plan keeps or leaves is not
compared. A plan made for another model (names or shapes that differ) is an error, not a finding.

## Why is this bad?

Code between the plan and the training loop overwrote, scaled or skipped the parameter: a later
`_init_weights`, a wrapper that reallocates, a name that no longer matches. Such faults are silent.
GPT-2's depth scaling of residual projections was lost that way, and another project scaled the
wrong projection.

## Example

```python
plan = fanin.plan(model, inputs, "gpt2")
fanin.apply(plan, model)
model.apply(model._init_weights)              # undoes the scaled residual projections
fanin.check(model, plan=plan).assert_ok()
```

## Fix

Apply the plan last: `fanin.apply(plan, model)`, and check again.

## References

* huggingface/transformers issue 47458: GPT-2 residual scaling never applied
* karpathy/llama2.c issue 579: the wrong projection scaled
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule
from fanin.planning.assignment import Plan
from fanin.planning.comparison import Deviation, compare_with_tensors


class PlanMismatch(Rule):
    """Tensors whose moments are not the plan's."""

    code = "FAN501"
    name = "plan-mismatch"
    needs = Needs.PLAN

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a parameter."""
        assert case.plan is not None
        deviations: dict[str, list[Deviation]] = {}
        for deviation in compare_with_tensors(case.plan, case.model):
            deviations.setdefault(deviation.parameter, []).append(deviation)
        for name, found in deviations.items():
            yield self._deviates(name, found)
        yield from self._rows_not_zero(case, case.plan, set(deviations))

    def _deviates(self, name: str, found: list[Deviation]) -> Finding:
        parts = [f"{d.quantity} {d.measured:.4g} instead of {d.expected:.4g}" for d in found]
        measured = {d.quantity: d.measured for d in found}
        measured |= {f"planned_{d.quantity}": d.expected for d in found}
        return self._error(
            name,
            f"{name!r} has {', '.join(parts)}; the plan says {found[0].assignment.scheme!r} "
            f"({found[0].assignment.role}).",
            measured,
        )

    def _rows_not_zero(self, case: Case, plan: Plan, known: set[str]) -> Iterator[Finding]:
        parameters = dict(case.model.named_parameters(remove_duplicate=False))
        for name, assignment in plan.items():
            if name in known or name not in parameters:
                continue
            tensor = parameters[name].detach()
            rows = [row for row in assignment.zero_rows if bool((tensor[row] != 0).any())]
            if rows:
                yield self._error(
                    name,
                    f"row {rows[0]} of {name!r}, which the plan sets to zero, is not zero.",
                    {"row": float(rows[0])},
                )

    def _error(self, name: str, message: str, measured: dict[str, float]) -> Finding:
        return self.finding(
            Severity.ERROR,
            name,
            message,
            measured=measured,
            expected="the plan's mean, std and bounds within sampling error",
            fix="Apply the plan after everything else that writes weights: "
            "fanin.apply(plan, model).",
        )
