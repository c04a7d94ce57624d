"""The tokens of a sample have become all but the same vector.

## What it does

Compares the mean cosine between the positions of one sample at the last hidden features
(samples, positions, features) with that at the first. Warns above 0.95 and rising (1 − cosine
halved or less), an error above 0.99. Samples whose tokens are alike from the start are left out.

## Why is this bad?

Attention then averages equal things and its weights get no gradient: rank collapse. Residual
branches that are too large for the embedding cause it (an embedding of std 0.02 under branches of
RMS 1), as do too many attention layers without skips.

## Example

```python
nn.Sequential(*[AttentionWithoutSkip(64) for _ in range(12)])
```

## Fix

`fanin.initialize(model, inputs)` scales what each branch writes by the number of branches and gives
untied embeddings unit RMS under a pre-norm.

## References

* Dong, Cordonnier & Loukas, Attention is not all you need: pure attention loses rank, 2021
* Noci et al., Signal propagation in transformers, 2022
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule

_WARN, _ERROR = 0.95, 0.99


class CollapsedTokens(Rule):
    """Positions that are all alike."""

    code = "FAN112"
    name = "collapsed-tokens"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a stream."""
        for stream in case.streams:
            points = [p for p in stream.points if p.signal.token_correlation is not None]
            if len(points) < 2:
                continue
            before, after = points[0].signal.token_correlation, points[-1].signal.token_correlation
            assert before is not None
            assert after is not None
            if after <= _WARN or 1 - after > 0.5 * (1 - before):
                continue
            yield self.finding(
                Severity.ERROR if after > _ERROR else Severity.WARNING,
                points[-1].where,
                f"the mean cosine between the tokens of a sample rises from {before:.3f} at "
                f"{points[0].where!r} to {after:.4f} at {points[-1].where!r}.",
                measured={"cosine": after, "cosine_at_start": before},
                expected=f"at most {_WARN}",
                fix="fanin.initialize(model, inputs) scales residual writers by depth and the "
                "embedding to unit RMS, which keeps tokens apart.",
            )
