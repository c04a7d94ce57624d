"""Similar samples are driven apart with depth: the network starts in the chaotic phase.

## What it does

Where the inputs of a batch are alike (mean cosine above 0.2 behind the first layer) it follows
that cosine down a stream of 5 or more layers without norms or skips. Warns when less than a tenth
is left at the last hidden features.

## Why is this bad?

The features are a hash of the input: two inputs that differ a little have nothing in common, so
that what is learnt on one says nothing about the other. Gradients explode with the same factor.
It takes weights that are too large for an odd activation such as tanh; ReLU networks collapse
instead (FAN111).

## Example

```python
layers = [layer for _ in range(20) for layer in (nn.Linear(256, 256), nn.Tanh())]
model = nn.Sequential(*layers, nn.Linear(256, 10))
for module in model.modules():
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=3 / 16)    # gain 3, where 1 is stable
```

## Fix

`fanin.initialize(model, inputs)` puts deep tanh networks on the edge of chaos: orthogonal weights
of gain 1.

## References

* Poole et al., Exponential expressivity in deep neural networks through transient chaos, 2016
* Schoenholz et al., Deep information propagation, 2017
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule

_ALIKE_AT_START = 0.2
_LEFT = 0.1
_FEWEST_LAYERS = 5


class ChaoticSignal(Rule):
    """Cosines of similar samples that vanish with depth."""

    code = "FAN116"
    name = "chaotic-signal"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a stream."""
        for stream in case.streams:
            layers = stream.layers
            plain = len(layers) == len(stream.points)  # neither norms nor residual sums
            if not plain or len(layers) < _FEWEST_LAYERS:
                continue
            before = stream.points[0].signal.correlation
            after = stream.points[-1].signal.correlation
            if before is None or after is None or before < _ALIKE_AT_START:
                continue
            if abs(after) < _LEFT * before:
                yield self.finding(
                    Severity.WARNING,
                    stream.points[-1].where,
                    f"the samples' mean cosine falls from {before:.3f} at "
                    f"{stream.points[0].where!r} to {after:.3f} at {stream.points[-1].where!r} "
                    f"over {len(layers)} layers.",
                    measured={"cosine": after, "cosine_at_start": before},
                    expected="similar inputs stay similar",
                    fix="fanin.initialize(model, inputs) puts deep tanh networks on the edge of "
                    "chaos, with orthogonal weights of gain 1.",
                )
