"""Weights that a module computes from other parameters: weight, spectral and orthogonal norms.

Writing ``weight_v`` alone leaves the effective weight elsewhere than where the scheme put it.
This file finds such weights and says which parameter carries the draw and which follow from it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from torch import nn
from torch.nn.utils import parametrize


class Parametrisation(StrEnum):
    """How a module computes its effective weight."""

    WEIGHT_NORM = "weight_norm"
    WEIGHT_NORM_HOOK = "weight_norm (pre-hook)"
    SPECTRAL_NORM = "spectral_norm"
    SPECTRAL_NORM_HOOK = "spectral_norm (pre-hook)"
    ORTHOGONAL = "orthogonal"
    FIXED = "an orthogonal map that cannot be assigned to"
    INVERTIBLE = "a parametrisation with right_inverse"
    OPAQUE = "a parametrisation without right_inverse"


@dataclass(frozen=True)
class ParametrisedWeight:
    """One effective weight and the parameters that it is computed from.

    Args:
        kind: how it is computed.
        effective: its path, ``"conv.weight"``; the draw has this address, so that a model gets
            the same numbers with and without the parametrisation.
        module: path of the module that has it.
        attribute: its name on that module, ``"weight"``.
        carrier: the parameter whose assignment holds the scheme.
        derived: parameters that follow from the draw.
        shape: of the effective weight.
    """

    kind: Parametrisation
    effective: str
    module: str
    attribute: str
    carrier: str
    derived: tuple[str, ...]
    shape: tuple[int, ...]


def parametrised_weights(model: nn.Module) -> dict[str, ParametrisedWeight]:
    """Every parameter that an effective weight is computed from -> that weight."""
    found: dict[str, ParametrisedWeight] = {}
    for path, module in model.named_modules():
        for weight in (*_registered(path, module), *_hooked(path, module)):
            for name in (weight.carrier, *weight.derived):
                found[name] = weight
    return found


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _registered(path: str, module: nn.Module) -> Iterator[ParametrisedWeight]:
    """Weights under ``torch.nn.utils.parametrize``."""
    if not parametrize.is_parametrized(module):
        return
    for attribute, chain in module.parametrizations.items():  # type: ignore[union-attr,operator]
        originals = {n: p for n, p in chain._parameters.items() if p is not None}
        if not originals:
            continue
        kind = _kind_of(chain)
        # weight_norm keeps the direction, which has the weight's shape, in original1.
        carrier = "original1" if kind is Parametrisation.WEIGHT_NORM else next(iter(originals))
        root = _join(path, f"parametrizations.{attribute}")
        yield ParametrisedWeight(
            kind=kind,
            effective=_join(path, attribute),
            module=path,
            attribute=attribute,
            carrier=f"{root}.{carrier}",
            derived=tuple(f"{root}.{name}" for name in originals if name != carrier),
            shape=tuple(int(n) for n in originals[carrier].shape),
        )


def _kind_of(chain: nn.Module) -> Parametrisation:
    steps = list(chain.children())
    names = [type(step).__name__ for step in steps]
    if names == ["_WeightNorm"]:
        return Parametrisation.WEIGHT_NORM
    if names == ["_SpectralNorm"]:
        return Parametrisation.SPECTRAL_NORM
    if names == ["_Orthogonal"]:
        # torch inverts the Householder map always, the others only with a base to start from.
        map_name = str(getattr(steps[0], "orthogonal_map", "")).rsplit(".", 1)[-1]
        free = hasattr(steps[0], "base") or map_name == "householder"
        return Parametrisation.ORTHOGONAL if free else Parametrisation.FIXED
    if all(hasattr(step, "right_inverse") for step in steps):
        return Parametrisation.INVERTIBLE
    return Parametrisation.OPAQUE


def _hooked(path: str, module: nn.Module) -> Iterator[ParametrisedWeight]:
    """Weights under the older ``torch.nn.utils.weight_norm`` and ``spectral_norm``."""
    for hook in module._forward_pre_hooks.values():
        kind = type(hook).__name__
        attribute = getattr(hook, "name", None)
        if kind == "WeightNorm" and isinstance(attribute, str):
            carrier = f"{attribute}_v"
            derived: tuple[str, ...] = (_join(path, f"{attribute}_g"),)
            which = Parametrisation.WEIGHT_NORM_HOOK
        elif kind == "SpectralNorm" and isinstance(attribute, str):
            carrier, derived = f"{attribute}_orig", ()
            which = Parametrisation.SPECTRAL_NORM_HOOK
        else:
            continue
        tensor = module._parameters.get(carrier)
        if tensor is None:
            continue
        yield ParametrisedWeight(
            kind=which,
            effective=_join(path, attribute),
            module=path,
            attribute=attribute,
            carrier=_join(path, carrier),
            derived=derived,
            shape=tuple(int(n) for n in tensor.shape),
        )
