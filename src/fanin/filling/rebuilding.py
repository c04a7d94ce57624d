"""Compute anew what a constructor computed: the buffers of modules that were built on meta.

A model built on the meta device has no memory anywhere.  Parameters are drawn; buffers (rotary
frequencies, causal masks, running statistics) and constant attributes are what the constructor
of their module would have computed.  So that one module is constructed once more, off the meta
device, from the settings that it stored under the names of its constructor's arguments; failing
that, transformers' own ``_init_weights`` of the model around is asked to write its buffers.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from fanin.errors import PlanError
from fanin.filling.owner_initialisation import (
    ParametersUnfilled,
    filled_by_owner,
    initialising_owner,
    modules_around,
)
from fanin.filling.transaction import Transaction
from fanin.randomness import Address


def rebuild_meta_buffers(model: nn.Module, transaction: Transaction, seed: int) -> dict[str, str]:
    """Give every buffer and constant on the meta device the value its constructor computes.

    Returns:
        Buffer name -> how it was recomputed.

    Raises:
        PlanError: a module's constructor cannot be called again; the message names the buffer.
    """
    written: dict[str, str] = {}
    unwritten = set(transaction.still_on_meta())
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        buffers = {n: prefix + n for n, b in module._buffers.items() if b is not None and b.is_meta}
        buffers = {n: full for n, full in buffers.items() if full in unwritten}
        constants = [n for n, v in vars(module).items() if _is_meta(v)]
        if not buffers and not constants:
            continue
        kind = type(module).__name__
        if _is_running(module, set(buffers)) and not constants:
            for local, full in buffers.items():
                value = 1.0 if local == "running_var" else 0.0
                transaction.write(full, torch.full((), value))
                written[full] = f"running statistics of {kind} start at 0 and 1"
            continue
        around = modules_around(model, path)
        owner = initialising_owner(around)
        try:
            fresh = _rebuild(path, module, around, sorted([*buffers, *constants])[0], seed)
        except PlanError:
            values = filled_by_owner(owner, module, path, seed) if owner and not constants else None
            if values is None or set(values) < set(buffers):
                raise
            for local, full in buffers.items():
                transaction.write(full, values[local])
                written[full] = f"written by {type(owner).__name__}._init_weights"
            continue
        _take(fresh, module, prefix, buffers, constants, transaction)
        written.update(dict.fromkeys(buffers.values(), f"computed as {kind}'s constructor does"))
    return written


def _take(
    fresh: nn.Module,
    module: nn.Module,
    prefix: str,
    buffers: Mapping[str, str],
    constants: list[str],
    transaction: Transaction,
) -> None:
    """Take buffers and constants over from a module that was constructed again."""
    for local, full in buffers.items():
        computed = fresh._buffers.get(local)
        _require_same(prefix + local, module._buffers[local], computed)
        assert computed is not None
        transaction.write(full, computed)
    if not constants:
        return
    transaction.remember(module.__dict__)
    for local in constants:
        constant = vars(fresh).get(local)
        _require_same(prefix + local, vars(module)[local], constant)
        # A constant that is one of the buffers, as it often is, stays that buffer.
        own = [b for b, tensor in fresh._buffers.items() if tensor is constant]
        module.__dict__[local] = transaction.open(prefix + own[0]) if own else constant


def _is_meta(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_meta


def _is_running(module: nn.Module, names: set[str]) -> bool:
    running = {"running_mean", "running_var", "num_batches_tracked"}
    return isinstance(module, nn.modules.batchnorm._NormBase) and names <= running


def _rebuild(
    path: str, module: nn.Module, around: list[nn.Module], local: str, seed: int
) -> nn.Module:
    """A second module of the same class and settings, on the CPU, its parameters unfilled."""
    where = f"{path}.{local}" if path else local
    kind = type(module)
    arguments = _stored_arguments(module, around, where)
    # Buffers that a constructor draws at random come from the seed and their name alone.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), ParametersUnfilled():
        torch.manual_seed(Address(seed, where).key() & (2**63 - 1))
        try:
            return kind(**arguments)
        except Exception as error:
            raise PlanError(
                f"{where!r} is on the meta device and {kind.__name__} cannot be constructed again "
                f"to compute it ({type(error).__name__}: {error}). {_ADVICE}"
            ) from error


_ADVICE = "Build the model on the CPU, or load that tensor with fanin.adopt."
_NEVER_STORED = {"device": "cpu"}


def _stored_arguments(module: nn.Module, around: list[nn.Module], where: str) -> dict[str, Any]:
    """The constructor's arguments, read from the attributes of the same names.

    ``config`` may be that of the nearest module around, as in transformers' models.  An argument
    that is stored nowhere is an error even where it has a default: the value that was given
    cannot be known, and a wrong rotary base is worse than a message.
    """
    kind: Callable[..., Any] = type(module)
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            continue
        places = [module, *around] if name == "config" else [module]
        found_at = (value for place in places for value in _attributes(place, name))
        value = next(found_at, inspect.Parameter.empty)
        if value is not inspect.Parameter.empty:
            found[name] = value
        elif name in _NEVER_STORED:
            found[name] = _NEVER_STORED[name]
        elif name == "dtype" and parameter.default is None:
            continue
        else:
            raise PlanError(
                f"{where!r} is on the meta device and cannot be computed again: "
                f"{type(module).__name__} does not store its argument {name!r}. {_ADVICE}"
            )
    return found


def _attributes(module: nn.Module, name: str) -> Iterator[Any]:
    for attribute in (name, f"_{name}"):
        if attribute in vars(module):
            yield vars(module)[attribute]


def _require_same(name: str, wanted: torch.Tensor | None, found: object) -> None:
    fits = (
        isinstance(found, torch.Tensor)
        and wanted is not None
        and found.shape == wanted.shape
        and not found.is_meta
    )
    if not fits:
        raise PlanError(
            f"{name!r} is on the meta device, and constructing its module again does not give a "
            f"tensor of its shape. {_ADVICE}"
        )
