"""The networks of a study: built afresh for every trial, from a function or a copy."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import nn

from fanin.comparing.digits import NETWORKS
from fanin.comparing.one_by_one import device_of
from fanin.comparing.recipes import key_of
from fanin.errors import DataError


@dataclass(frozen=True)
class Network:
    """A network by name, and how to build one more of it.

    Args:
        name: in tables.
        make: called without arguments for every trial.
        parameters: number of trainable numbers.
        kind: class of the model.
        key: text that changes when the network does; part of the digest of a trial.
        device: where it is built, and so where it trains.
    """

    name: str
    make: Callable[[], Any]
    parameters: int
    kind: str
    key: str
    device: torch.device

    def build(self, seed: int) -> nn.Module:
        """One more network; a constructor that draws numbers draws those of ``seed``."""
        return build_module(self.make, self.name, seed)


def read_networks(build: Any) -> tuple[Network, ...]:
    """The networks that the argument ``build`` means.

    Args:
        build: None for the two built in; a function without arguments, a model, or a dict
            name -> either.

    Raises:
        DataError: something else, a function that raises or returns no module, no parameters.
    """
    if build is None:
        build = NETWORKS
    if isinstance(build, Mapping):
        if not build:
            raise DataError("build: an empty dict. Give name -> function, or one function.")
        return tuple(_network(str(name), made) for name, made in build.items())
    if isinstance(build, nn.Module):
        return (_network(type(build).__name__, build),)
    name = getattr(build, "__name__", type(build).__name__)
    return (_network("model" if name == "<lambda>" else name, build),)


def build_module(make: Callable[[], Any], name: str, seed: int) -> nn.Module:
    """Call ``make`` under a seed of its own, and see that a module comes of it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model = make()
        except Exception as error:
            raise DataError(
                f"build: {name!r} raised {type(error).__name__}: {error}. Give a function "
                "without arguments that returns a torch.nn.Module."
            ) from error
    if not isinstance(model, nn.Module):
        raise DataError(
            f"build: {name!r} returned {type(model).__name__}. Give a function without arguments "
            "that returns a torch.nn.Module."
        )
    return model


def _network(name: str, made: Any) -> Network:
    if isinstance(made, nn.Module):
        model, make = made, lambda: copy.deepcopy(made)
    elif callable(made):
        model, make = build_module(made, name, 0), made
    else:
        raise DataError(
            f"build: {name!r} is a {type(made).__name__}. Give a model, or a function without "
            "arguments that returns one."
        )
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise DataError(
            f"build: {name!r} has no parameter that requires a gradient, so there is nothing to "
            "train. Set requires_grad_(True) on what should be."
        )
    lazy = next(
        (n for n, p in model.named_parameters() if isinstance(p, nn.UninitializedParameter)), None
    )
    if lazy is not None:
        raise DataError(
            f"build: parameter {lazy!r} of {name!r} has no shape yet. Call the model once on an "
            "input in the function that builds it."
        )
    if any(p.is_meta for p in model.parameters()):
        raise DataError(
            f"build: {name!r} is on the meta device, where nothing can be trained. Build it on "
            "a real one."
        )
    count = sum(p.numel() for p in trainable)
    return Network(name, make, count, type(model).__name__, _key(model), device_of(model))


def _key(model: nn.Module) -> str:
    digest = blake2b(repr(model).encode(), digest_size=16)
    for kind in sorted({type(m) for m in model.modules()}, key=lambda k: k.__qualname__):
        if not kind.__module__.startswith("torch."):
            digest.update(key_of(kind.forward).encode())
    # Built under seed 0, so two runs of one program see the same constructor's values; they
    # matter where a recipe leaves a tensor as it was.
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        if isinstance(tensor, torch.Tensor):
            plain = tensor.detach().cpu().contiguous()
            digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {parameter.requires_grad}".encode())
    return digest.hexdigest()
