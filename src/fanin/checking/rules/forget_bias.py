"""An LSTM starts with its forget gates half shut, or its forget bias was set twice.

## What it does

Adds the two biases that PyTorch gives the forget gate of every `nn.LSTM` layer and `nn.LSTMCell`
and notes a mean sum below 0.5, or one above 1.5 with both set to 1 or so (twice what was meant).

## Why is this bad?

With a forget bias of 0 a cell keeps half of its state a step: after 10 steps a thousandth is left,
and so it is with the gradient. A bias of 1 keeps 0.73. PyTorch starts both biases in ±1/√h; it has
two of them, so that a recipe that fills every bias with 1 gives 2.

## Example

```python
lstm = nn.LSTM(64, 64)     # forget bias 0 ± 0.1
```

## Fix

`fanin.initialize(model, inputs)` sets one of the two to 1; the recipe "chrono" fits it to the
length of your sequences.

## References

* Gers, Schmidhuber & Cummins, Learning to forget, 2000
* Jozefowicz, Zaremba & Sutskever, An empirical exploration of recurrent architectures, 2015
* pytorch/pytorch issue 20102, LSTM forget bias
"""

from collections.abc import Iterator

from torch import nn

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule

_LOW, _HIGH, _EACH = 0.5, 1.5, 0.5


class ForgetBias(Rule):
    """LSTM forget biases at 0 or set twice."""

    code = "FAN306"
    name = "forget-bias-not-one"
    needs = Needs.WEIGHTS

    def find(self, case: Case) -> Iterator[Finding]:
        """One note a module: its first bad layer."""
        for path, module in case.model.named_modules():
            if not isinstance(module, nn.LSTM | nn.LSTMCell):
                continue
            parameters = dict(module.named_parameters(recurse=False))
            for name, inner in parameters.items():
                other = parameters.get(name.replace("bias_ih", "bias_hh"))
                if not name.startswith("bias_ih") or other is None or inner.is_meta:
                    continue
                h = module.hidden_size
                means = [float(b.detach()[h : 2 * h].float().mean()) for b in (inner, other)]
                twice = sum(means) > _HIGH and min(means) > _EACH
                if not (sum(means) < _LOW or twice):
                    continue
                yield self._noted(f"{path}.{name}" if path else name, sum(means), twice)
                break

    def _noted(self, where: str, total: float, twice: bool) -> Finding:
        said = "both of PyTorch's biases were set" if twice else "the gates start half shut"
        return self.finding(
            Severity.NOTE,
            where,
            f"the forget gate's biases add up to {total:.3g}: {said}.",
            measured={"forget_bias": total},
            expected="1, in one of the two biases",
            fix="fanin.initialize(model, inputs) sets one of the two to 1.",
        )
