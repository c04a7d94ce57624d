"""The padding row of an embedding is not zero.

## What it does

Looks at the row `padding_idx` of every trained `nn.Embedding` and `nn.EmbeddingBag`. A note where
the table is tied to a head, which trains the row.

## Why is this bad?

The row gets no gradient, so whatever an initialisation wrote there stays for ever and is added
wherever a sum or a mean runs over padding. `nn.Embedding` zeroes it on construction;
`nn.init.normal_(embedding.weight)` afterwards destroys that.

## Example

```python
embedding = nn.Embedding(1000, 64, padding_idx=0)
nn.init.normal_(embedding.weight, std=0.02)
```

## Fix

`fanin.initialize(model, inputs)` keeps padding rows at zero, also when you give the scheme.

## References

* pytorch/pytorch issue 6495, initialisation destroys the padding row
"""

from collections.abc import Iterator

import torch
from torch import nn

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule


class PaddingRowNotZero(Rule):
    """Embeddings whose padding row is not zero."""

    code = "FAN304"
    name = "padding-row-not-zero"
    needs = Needs.WEIGHTS

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding an embedding."""
        shared = list(case.model.named_parameters(remove_duplicate=False))
        for path, module in case.model.named_modules():
            if not isinstance(module, nn.Embedding | nn.EmbeddingBag):
                continue
            row, weight = module.padding_idx, module.weight
            if row is None or not weight.requires_grad or weight.is_meta:
                continue
            length = float(torch.linalg.vector_norm(weight.detach()[row].float()))
            if length > 0:
                tied = sum(p is weight for _, p in shared) > 1
                yield self.finding(
                    Severity.NOTE if tied else Severity.WARNING,
                    f"{path}.weight" if path else "weight",
                    f"row {row}, the padding row of {path!r}, has length {length:.3g}; looking "
                    "it up gives it no gradient.",
                    measured={"row": float(row), "length": length},
                    expected="a row of zeros",
                    fix="fanin.initialize(model, inputs) keeps padding rows at zero.",
                )
