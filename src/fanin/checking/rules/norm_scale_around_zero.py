"""The scale of a normalisation was drawn around zero.

## What it does

Looks at the weight of every BatchNorm, LayerNorm, GroupNorm, InstanceNorm and RMSNorm: warns when
its elements differ and their mean is smaller than their std. Scales of exactly 0 (a branch that
starts closed, RMSNorms that multiply by 1 + w) and scales drawn around 1 (DCGAN) are left alone.

## Why is this bad?

A norm that multiplies by numbers around zero undoes its own work: the signal behind it is as small
as they are, with random signs, and the next norm amplifies what is left and its noise. It happens
when a loop over all parameters draws every `weight` from N(0, 0.02²).

## Example

```python
model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
for parameter in model.parameters():
    nn.init.normal_(parameter, std=0.02)
```

## Fix

`fanin.initialize(model, inputs)` starts norm scales at 1 and norm biases at 0, also when you give
the scheme for all weights.

## References

* Ioffe & Szegedy, Batch normalization, 2015
* Radford, Metz & Chintala, DCGAN, 2015
"""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity
from fanin.checking.rule import Needs, Rule

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class NormScaleAroundZero(Rule):
    """Norm scales with random signs."""

    code = "FAN305"
    name = "norm-scale-around-zero"
    needs = Needs.WEIGHTS

    def find(self, case: Case) -> Iterator[Finding]:
        """One finding for all norms."""
        bad = []
        for path, module in case.model.named_modules():
            if not isinstance(module, _NORMS) or module.weight is None:
                continue
            name = f"{path}.weight" if path else "weight"
            signal = case.signals.parameters.get(name)
            if signal is None or not signal.std or signal.mean is None:
                continue
            if abs(signal.mean) < signal.std:
                bad.append((name, signal.mean, signal.std))
        if not bad:
            return
        name, mean, std = bad[0]
        yield self.finding(
            Severity.WARNING,
            name,
            f"{name!r} has mean {mean:.3g} and std {std:.3g}: a norm scale around zero; so it is "
            f"with {len(bad)} norms.",
            measured={"mean": mean, "std": std, "norms": float(len(bad))},
            expected="1, or 0 at the end of a branch",
            fix="fanin.initialize(model, inputs) starts norm scales at 1.",
        )
