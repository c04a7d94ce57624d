"""Attention looks at a few keys only, before anything was learnt.

## What it does

Measures the entropy of the attention weights over ln(number of valid keys), averaged over heads
and queries; fused attention is recomputed from its queries and keys. Warns below 0.5, an error
below 0.2. Queries with fewer than 8 valid keys (early causal rows, narrow windows) are left out,
and so is attention whose logits a parameter scales: its temperature is the author's choice.

## Why is this bad?

The softmax is saturated: its gradient with respect to queries and keys is next to zero, and which
keys win was decided by the random draw. Query and key weights that are too large, or a missing
1/√d, do it.

## Example

```python
attention = nn.MultiheadAttention(64, 1)
nn.init.normal_(attention.in_proj_weight, std=1.0)   # logits of std 64 instead of 1
```

## Fix

`fanin.initialize(model, inputs)` draws queries and keys so that the logits have a std of at most 1.

## References

* Vaswani et al., Attention is all you need, 2017, section 3.2.1
* Zhai et al., Stabilizing transformer training by preventing attention entropy collapse, 2023
"""

from collections.abc import Iterator

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule

_WARN, _ERROR = 0.5, 0.2


class PeakedAttention(Rule):
    """Attention whose softmax is saturated."""

    code = "FAN113"
    name = "peaked-attention"
    needs = Needs.BATCH

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding for the model: the most peaked attention, and how many others there are."""
        bad = [
            a
            for a in case.signals.attention
            if a.entropy_share < _WARN and not a.learned_temperature
        ]
        if not bad:
            return
        worst = min(bad, key=lambda a: a.entropy_share)
        yield self.finding(
            Severity.ERROR if worst.entropy_share < _ERROR else Severity.WARNING,
            worst.module,
            f"the attention in {worst.module!r} has {worst.entropy_share:.0%} of the entropy of "
            f"looking everywhere (up to {worst.keys} keys); {len(bad)} of "
            f"{len(case.signals.attention)} attentions are below {_WARN:.0%}.",
            measured={"entropy_share": worst.entropy_share, "attentions": float(len(bad))},
            expected=f"at least {_WARN:.0%}",
            fix="fanin.initialize(model, inputs) scales queries and keys to logits of std 1 or "
            "less; check that the scores are divided by √d.",
        )
