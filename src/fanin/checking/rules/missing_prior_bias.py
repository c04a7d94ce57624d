"""The labels are unbalanced and the head starts as if they were not.

## What it does

Notes a loss among classes (or of binary targets) whose labels have an entropy below 0.7 · ln C,
counted from at least 20 labels a class, when the loss at the start is more than 0.3 nats above that
entropy.

## Why is this bad?

The first steps only teach the bias how frequent each class is: a large common gradient that says
nothing about the inputs. In dense detection, where one place in a hundred is an object, the many
easy negatives swamp the loss and can make it diverge. A bias of ln p_c (binary: ln(p/(1−p)))
starts at the entropy of the labels instead.

## Example

```python
head = nn.Linear(64, 1)                              # says 0.5 where 1 % of the targets are 1
loss = nn.BCEWithLogitsLoss()(head(x), rare_targets)  # ln 2 = 0.69 instead of 0.056
```

## Fix

`fanin.initialize(model, inputs, overrides={"head.bias": Constant(math.log(p / (1 - p)))})` with
`Constant` from `fanin.schemes`, or write ln p_c into the bias of a head with several classes.

## References

* Lin et al., Focal loss for dense object detection, 2017, section 3.3
* Karpathy, A recipe for training neural networks, 2019 ("init well")
"""

import math
from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule

_UNBALANCED = 0.7
_ABOVE = 0.3
_LABELS_PER_CLASS = 20


class MissingPriorBias(Rule):
    """Heads that do not know how frequent their classes are."""

    code = "FAN403"
    name = "missing-prior-bias"
    needs = Needs.LOSS

    def find(self, case: Case) -> Iterator[Finding]:
        """At most one note."""
        signals = case.signals
        classes = 2 if signals.loss_name == "bce" else signals.classes
        entropy, loss = signals.label_entropy, signals.loss
        if classes is None or classes < 2 or entropy is None or loss is None:
            return
        if signals.labels < _LABELS_PER_CLASS * classes:
            return
        if entropy > _UNBALANCED * math.log(classes) or not loss > entropy + _ABOVE:
            return
        head = next((stream.head for stream in case.streams if stream.head), "")
        yield self.finding(
            Severity.NOTE,
            head,
            f"the labels have an entropy of {entropy:.3g}, where even ones would have "
            f"ln {classes} = {math.log(classes):.3g}, and the loss starts at {loss:.3g}.",
            measured={"loss": loss, "label_entropy": entropy},
            expected="a loss near the labels' entropy",
            fix="Set the head's bias to the logarithm of the class frequencies: "
            'fanin.initialize(model, inputs, overrides={"<head>.bias": Constant(…)}).',
        )
