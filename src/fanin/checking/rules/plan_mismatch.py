"""A parameter is not what the plan says.

## What it does

Compares the mean and the std of every parameter that the plan initialises with those its scheme
promises, within sampling error: 5 standard errors of the mean (std/√n) and of the std (std/√(2n)).
Zeros, ones and constants must be exact, bounds must hold, and rows that the plan zeroes must be
zero. Parameters that the plan keeps or leaves are not compared.

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

import math
from collections.abc import Iterator

import torch

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule
from fanin.errors import SchemeError
from fanin.planning.expectation import expected_moments
from fanin.planning.plan import Action, Assignment

STANDARD_ERRORS = 5.0
_ROUNDING = {torch.float16: 1e-3, torch.bfloat16: 8e-3}  # of narrow dtypes, relative


class PlanMismatch(Rule):
    """Tensors whose moments are not the plan's."""

    code = "FAN501"
    name = "plan-mismatch"
    needs = Needs.PLAN

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a parameter."""
        assert case.plan is not None
        parameters = dict(case.model.named_parameters(remove_duplicate=False))
        for name, assignment in case.plan.items():
            if assignment.action is not Action.INITIALISE or assignment.scheme is None:
                continue
            if name not in parameters:
                yield self._missing(name)
            elif parameters[name].numel() and parameters[name].is_floating_point():
                yield from self._compare(name, parameters[name].detach(), assignment)

    def _compare(self, name: str, tensor: torch.Tensor, planned: Assignment) -> Iterator[Finding]:
        assert planned.scheme is not None
        try:
            moments = expected_moments(
                planned.scheme, tensor.shape, planned.axes, planned.zero_rows
            )
        except SchemeError as error:
            yield self._error(name, f"the plan does not fit {name!r}: {error}", {})
            return
        std = planned.std if planned.std is not None else moments.std
        if math.isnan(std):
            return  # a function of the user's: nothing is promised
        values = tensor.double() if tensor.numel() < 1 << 24 else tensor.float()
        found_mean = float(values.mean())
        found_std = float(values.std(unbiased=False))
        measured = {
            "mean": found_mean,
            "std": found_std,
            "planned_mean": moments.mean,
            "planned_std": std,
        }
        rounding = _ROUNDING.get(tensor.dtype, 1e-5)
        count = tensor.numel()
        slack = rounding * (std + abs(moments.mean))
        wrong_std = abs(found_std - std) > STANDARD_ERRORS * std / math.sqrt(2 * count) + slack
        wrong_mean = abs(found_mean - moments.mean) > (
            STANDARD_ERRORS * std / math.sqrt(count) + slack
        )
        low, high = float(values.min()), float(values.max())
        outside = (moments.low is not None and low < moments.low - slack) or (
            moments.high is not None and high > moments.high + slack
        )
        if wrong_std or wrong_mean:
            yield self._error(
                name,
                f"{name!r} has mean {found_mean:.4g} and std {found_std:.4g}; the plan says "
                f"{planned.scheme!r} with mean {moments.mean:.4g} and std {std:.4g}.",
                measured,
            )
        elif outside:
            yield self._error(
                name,
                f"{name!r} runs from {low:.4g} to {high:.4g}, beyond the bounds of "
                f"{planned.scheme!r}.",
                {**measured, "low": low, "high": high},
            )
        elif any(bool((tensor[row] != 0).any()) for row in planned.zero_rows):
            yield self._error(
                name, f"rows of {name!r} that the plan zeroes are not zero.", measured
            )

    def _missing(self, name: str) -> Finding:
        return self._error(
            name, f"the plan initialises {name!r}, which the model does not have.", {}
        )

    def _error(self, name: str, message: str, measured: dict[str, float]) -> Finding:
        return self.finding(
            Severity.ERROR,
            name,
            message,
            measured=measured,
            expected="the plan's mean and std within sampling error",
            fix="Apply the plan after everything else that writes weights: "
            "fanin.apply(plan, model).",
        )
