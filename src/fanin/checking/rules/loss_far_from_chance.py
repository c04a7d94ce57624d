"""The loss at the start is not that of guessing.

## What it does

Compares cross-entropy with ln C, what an even guess among C classes costs (ln 2 for binary
losses), less than which it may be down to the entropy of the labels when a bias knows their
frequencies. Warns when the loss is more than 0.3 nats above, an error when it is more than ln C
above, beyond three standard errors of the batch. A loss clearly below the labels' entropy is noted:
the model knows the batch already.

## Why is this bad?

The head is confidently wrong before it has seen anything. The first steps are spent on shrinking
the logits (the hockey stick in the loss curve), with gradients that shake the layers below. Logits
of std s cost about s²/2 nats. A tied embedding drawn from N(0, 1) costs hundreds.

## Example

```python
model = nn.Linear(784, 10)
nn.init.normal_(model.weight)       # logits of std 28: a loss of about 40 instead of 2.3
```

## Fix

`fanin.initialize(model, inputs)` starts heads at zero or at small logits; for unbalanced classes
set the bias to the logarithm of their frequencies.

## References

* Karpathy, A recipe for training neural networks, 2019 ("verify loss at init")
* Lin et al., Focal loss for dense object detection, 2017, section 4.1
"""

import math
from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule

_WARN = 0.3


class LossFarFromChance(Rule):
    """A loss at the start far from ln C."""

    code = "FAN401"
    name = "loss-far-from-chance"
    needs = Needs.LOSS

    def find(self, case: Case) -> Iterator[Finding]:
        """At most one finding."""
        signals = case.signals
        classes = 2 if signals.loss_name == "bce" else signals.classes
        loss = signals.loss
        if classes is None or classes < 2 or loss is None or not math.isfinite(loss):
            return
        chance = math.log(classes)
        noise = 3 * (signals.loss_error or 0.0)
        excess = loss - chance
        if excess > _WARN + noise:
            yield self.finding(
                Severity.ERROR if excess > chance + noise else Severity.WARNING,
                "",
                f"the loss is {loss:.3g}, {excess:.3g} nats above ln {classes} = {chance:.3g}, "
                "what guessing costs.",
                measured={"loss": loss, "chance": chance},
                expected=f"at most ln C + {_WARN}",
                fix='fanin.initialize(model, inputs), or overrides={"<the head>": "zeros"}: a head '
                "of zeros starts at ln C exactly.",
            )
        elif signals.label_entropy is not None and loss < signals.label_entropy - _WARN - noise:
            yield self.finding(
                Severity.NOTE,
                "",
                f"the loss is {loss:.3g}, below the labels' entropy of "
                f"{signals.label_entropy:.3g}: the model knows this batch already.",
                measured={"loss": loss, "label_entropy": signals.label_entropy},
                expected="a fresh model cannot beat the entropy of the labels",
                fix="Nothing, if the model was trained before; else look for the label among the "
                "inputs. fanin.adopt(model, checkpoint) keeps what was trained.",
            )
