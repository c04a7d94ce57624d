"""Different samples have become all but the same vector.

## What it does

Compares the mean cosine c between the samples of the batch at the last hidden features with that
of the inputs (behind an embedding: of the first layer's outputs). Warns when c is above 0.99 and
1 − c a tenth or less of what it was, an error when 1 − c is below a hundredth of what it was.
Inputs that are alike already, and batches of fewer than 4 samples, are left out. In models over
tokens it looks at all positions, not at the one that is picked for the output.

## Why is this bad?

The RMS of every layer may be perfect while the head cannot tell one sample from another: only the
tiny differences carry information, and gradients of all samples point the same way. Every plain
ReLU net does it: 1 − c falls as 9π²/(2l²) with He's weights, and exponentially with biases or
smaller weights. PyTorch's default layers hide the loss of signal behind the noise of their biases.

## Example

```python
layers = [layer for _ in range(30) for layer in (nn.Linear(256, 256), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(256, 10))    # PyTorch's default: c = 1.0000
```

## Fix

`fanin.initialize(model, inputs)` gives deep plain networks mirrored orthogonal weights, which keep
every cosine. A norm or skips help as well.

## References

* Poole et al., Exponential expressivity in deep neural networks through transient chaos, 2016
* Schoenholz et al., Deep information propagation, 2017
* Balduzzi et al., The shattered gradients problem, 2017
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.reading import last_features
from fanin.checking.rule import Needs, Rule
from fanin.checking.streams import Stream

_ALIKE = 0.99
_WARN_LEFT, _ERROR_LEFT = 0.1, 0.01  # of 1 − c at the inputs
_FEWEST_SAMPLES = 4


class CollapsedSamples(Rule):
    """Features that no longer tell samples apart."""

    code = "FAN111"
    name = "collapsed-samples"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a stream."""
        if case.signals.samples < _FEWEST_SAMPLES:
            return
        for stream in case.streams:
            start, end = _start(stream), last_features(stream)
            after = end.signal.correlation if end is not None else None
            if start is None or end is None or after is None or 1 - start < 1e-3:
                continue
            left = max(0.0, 1 - after) / (1 - start)
            if not (left < _ERROR_LEFT or (after > _ALIKE and left < _WARN_LEFT)):
                continue
            start = round(start, 3) + 0.0  # no −0.000
            yield self.finding(
                Severity.ERROR if left < _ERROR_LEFT else Severity.WARNING,
                end.where,
                f"the samples' mean cosine rises from {start:.3f} at the inputs to {after:.5f} at "
                f"{end.where!r}: {left:.2%} of what told them apart is left.",
                measured={"cosine": after, "cosine_of_inputs": start, "left": left},
                expected=f"1 − cosine of at least {_WARN_LEFT:.0%} of the inputs'",
                fix="fanin.initialize(model, inputs) chooses weights that keep samples apart at "
                "this depth, or says that a norm or a skip is needed.",
            )


def _start(stream: Stream) -> float | None:
    if stream.input is not None and stream.input.correlation is not None:
        return stream.input.correlation
    return stream.points[0].signal.correlation
