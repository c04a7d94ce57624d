"""The logits at the start are large.

## What it does

Measures the std of the logits over the classes. Warns above 1, an error above 5, beyond what
chance does at this number of values. Only for losses that choose among classes.

## Why is this bad?

A softmax over logits of std 5 is nearly one-hot: the model is sure of a random answer. The gradient
of the loss is then as large as it can be, and points wherever the draw has put it. An embedding
from N(0, 1) that is tied to the head gives logits of std √d.

## Example

```python
head = nn.Linear(512, 100)
nn.init.normal_(head.weight)       # features of RMS 1 give logits of std 22
```

## Fix

`fanin.initialize(model, inputs)` starts heads at zero or with logits of std 0.3 or less, and ties
an embedding at std 1/√d.

## References

* Karpathy, A recipe for training neural networks, 2019
* Press & Wolf, Using the output embedding to improve language models, 2017
"""

import math
from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule

_WARN, _ERROR = 1.0, 5.0


class LogitsTooLarge(Rule):
    """Logits of a large std."""

    code = "FAN402"
    name = "logits-too-large"
    needs = Needs.LOSS

    def find(self, case: Case) -> Iterator[Finding]:
        """At most one finding."""
        std, classes = case.signals.logits_std, case.signals.classes
        if std is None or classes is None or not math.isfinite(std):
            return
        # The std over C classes is itself known to about 1/√(2C); samples of one batch share it.
        if std <= _WARN * (1 + 3 / math.sqrt(2 * classes)):
            return
        head = next((stream.head for stream in case.streams if stream.head), "")
        yield self.finding(
            Severity.ERROR if std > _ERROR else Severity.WARNING,
            head,
            f"the logits have a std of {std:.3g} over the {classes} classes.",
            measured={"std": std},
            expected=f"at most {_WARN:g}",
            fix="fanin.initialize(model, inputs) starts the head at zero or with small logits.",
        )
