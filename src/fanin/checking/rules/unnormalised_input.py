"""The inputs are far from unit scale.

## What it does

Notes floating inputs with an RMS above 10 or below 0.01, or a mean beyond 3 standard deviations,
that a layer reads (not a norm, which would forget the scale).

## Why is this bad?

All initialisation schemes assume inputs with a second moment near 1. Pixels from 0 to 255 make the
first layer's output 150 times too large: its units saturate and its gradients dwarf all others. A
large common mean makes all samples alike.

## Example

```python
fanin.check(model, torch.randint(0, 256, (64, 3, 32, 32)).float())
```

## Fix

Subtract the training set's mean and divide by its std.

## References

* LeCun et al., Efficient BackProp, 1998, section 4.3
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule
from fanin.checking.streams import Stream

_LARGE, _SMALL, _MEAN_IN_STDS = 10.0, 0.01, 3.0
_SPARSE = 0.5  # one-hot and bag-of-words inputs have small moments by nature


class UnnormalisedInput(Rule):
    """Inputs at another scale than the weights assume."""

    code = "FAN114"
    name = "unnormalised-input"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One note an input."""
        for stream in case.streams:
            yield from self._look(stream)

    def _look(self, stream: Stream) -> Iterator[Finding]:
        signal = stream.input
        if signal is None or not signal.rms or not stream.read_raw:
            return
        if (signal.zero_share or 0.0) > _SPARSE:
            return
        mean, std = signal.mean or 0.0, signal.std or 0.0
        off_scale = not _SMALL <= signal.rms <= _LARGE
        if not off_scale and abs(mean) <= _MEAN_IN_STDS * std:
            return
        yield self.finding(
            Severity.NOTE,
            stream.points[0].where,
            f"the input that {stream.points[0].where!r} reads has mean {mean:.3g}, std {std:.3g} "
            f"and RMS {signal.rms:.3g}.",
            measured={"mean": mean, "std": std, "rms": signal.rms},
            expected="mean near 0 and RMS near 1",
            fix="Subtract the training set's mean and divide by its std before fanin.check and "
            "training.",
        )
