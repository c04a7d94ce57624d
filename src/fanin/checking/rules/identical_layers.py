"""Layers of a stack were built as copies of one another.

## What it does

Compares the members of every list of layers (`layers.0`, `layers.1`, …): warns when two of them
have the same random weights in all their matrices without sharing them. Weights of a few values
(zeros, identities) and frozen copies (teachers, targets) are left out.

## Why is this bad?

The layers were meant to be drawn independently. Copies add their contributions in the same
direction, so that the variance along the stream grows with L² instead of L, and analyses that
assume independence do not hold. `nn.TransformerEncoder` and `nn.TransformerDecoder` deep-copy the
layer they are given: every layer of a fresh one starts identical.

## Example

```python
encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4), num_layers=6)
```

## Fix

`fanin.initialize(model, inputs)` draws every parameter from an address of its own, so that no two
layers are alike.

## References

* pytorch/pytorch issue 86274, nn.TransformerEncoder: all layers have the same parameters
"""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule

_FEW_VALUES = 4  # zeros, ones, ±identities: structured starts, the same in every layer by design
_LOOK_AT = 4096


class IdenticalLayers(Rule):
    """Copied layers."""

    code = "FAN203"
    name = "identical-layers"
    needs = Needs.WEIGHTS

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding a list of layers; lists inside a copied layer are not repeated."""
        reported: list[str] = []
        for path, module in case.model.named_modules():
            if any(path.startswith(f"{outer}.") for outer in reported):
                continue
            children = dict(module.named_children())
            names = [name for name in children if name.isdecimal()]
            if len(names) < 2:
                continue
            layers = [children[name] for name in names]
            copies = _copies(layers)
            if len(copies) < 2:
                continue
            reported.append(path)
            shown = ", ".join(names[i] for i in copies[:6]) + (" …" if len(copies) > 6 else "")
            yield self.finding(
                Severity.WARNING,
                path,
                f"{len(copies)} of {len(layers)} layers in {path or 'the model'} hold the same "
                f"weights ({shown}) without sharing them.",
                measured={"identical": float(len(copies)), "layers": float(len(layers))},
                expected="a draw of its own for every layer",
                fix="fanin.initialize(model, inputs) draws every layer by itself.",
            )


def _copies(layers: Sequence[nn.Module]) -> list[int]:
    """Indices of the largest group of layers whose matrices are equal."""
    groups: list[list[int]] = []
    matrices = [_matrices(layer) for layer in layers]
    for index, mine in enumerate(matrices):
        if not mine:
            continue
        for group in groups:
            if _same(matrices[group[0]], mine):
                group.append(index)
                break
        else:
            groups.append([index])
    return max(groups, key=len, default=[])


def _matrices(layer: nn.Module) -> dict[str, nn.Parameter]:
    """Trained matrices with random numbers in them."""
    return {
        name: p
        for name, p in layer.named_parameters()
        if p.dim() > 1 and p.requires_grad and not p.is_meta and _is_random(p)
    }


def _is_random(parameter: nn.Parameter) -> bool:
    values = parameter.detach().flatten()[:_LOOK_AT]
    return int(torch.unique(values).numel()) > _FEW_VALUES


def _same(one: dict[str, nn.Parameter], other: dict[str, nn.Parameter]) -> bool:
    return one.keys() == other.keys() and all(
        one[name] is not other[name]
        and one[name].shape == other[name].shape
        and torch.equal(one[name].detach(), other[name].detach())
        for name in one
    )
