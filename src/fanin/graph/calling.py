"""Call a model with a tensor, a tuple or a dict, and say clearly what is wrong when it fails."""

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from types import GeneratorType
from typing import Any

import torch
from torch import nn

from fanin.errors import DataError, RecordError


def call(model: nn.Module, inputs: Any) -> Any:
    """``model(...)`` on the inputs given.

    Args:
        model: any module.
        inputs: a tensor, a tuple of positional arguments, or a mapping of keyword arguments.

    Returns:
        What the model returned; of a generator everything that it yields, as a tuple.

    Raises:
        DataError: the inputs are none of these, or do not fit the signature of forward.
        RecordError: the model raised; the cause is chained, the message names the module.
    """
    positional, keyword = arguments(inputs)
    _bind(model, positional, keyword)
    try:
        result = model(*positional, **keyword)
        # Nothing of a generator has run yet.
        return tuple(result) if isinstance(result, GeneratorType) else result
    except Exception as error:
        raise _explained(model, inputs, error) from error


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of ``inputs``.

    Raises:
        DataError: neither a tensor, nor a tuple, nor a mapping with names as keys.
    """
    if isinstance(inputs, torch.Tensor):
        return (inputs,), {}
    if isinstance(inputs, tuple):
        return inputs, {}
    if isinstance(inputs, Mapping):
        wrong = [key for key in inputs if not isinstance(key, str)]
        if wrong:
            raise DataError(
                f"inputs: the keyword {wrong[0]!r} is not a string. Give a dict of argument names "
                "of the model's forward."
            )
        return (), dict(inputs)
    raise DataError(
        f"inputs: {type(inputs).__name__} is not a tensor, a tuple of positional arguments or a "
        "dict of keyword arguments. Wrap a single argument of another type as (value,)."
    )


def _bind(model: nn.Module, positional: tuple[Any, ...], keyword: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # forward is compiled code; the call itself will tell
        return
    try:
        signature.bind(*positional, **keyword)
    except TypeError as error:
        raise DataError(
            f"{signature_of(model)} does not take {describe((positional, keyword))}: {error}. "
            "Give a tensor, a tuple of positional arguments or a dict of keyword arguments "
            "that fits."
        ) from error


def signature_of(model: nn.Module) -> str:
    """``Net.forward(x, mask=None)``, for messages."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return f"{type(model).__name__}.forward"
    shown = [str(p.replace(annotation=inspect.Parameter.empty)) for p in parameters[:8]]
    dots = ", …" if len(parameters) > 8 else ""
    return f"{type(model).__name__}.forward({', '.join(shown)}{dots})"


def describe(value: Any) -> str:
    """Tensors as ``float32[8, 3]``, containers with their structure, the rest by its type."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, tuple) and len(value) == 2 and value[1] == {} and type(value[0]) is tuple:
        value = value[0]
    elif isinstance(value, tuple) and len(value) == 2 and value[0] == () and value[1]:
        value = value[1]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {describe(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(describe(v) for v in value) + ")"
    if isinstance(value, bool | int | float | str | None):
        return repr(value)
    return type(value).__name__


def _explained(model: nn.Module, inputs: Any, error: Exception) -> RecordError:
    place = _raising_module(model, error)
    where = f"{signature_of(model)} raised {type(error).__name__}"
    if place:
        where += f" in module {place!r}"
    said = " ".join(str(error).split()) or "no message"
    said = said if len(said) <= 400 else said[:400] + "…"
    on_meta = any(p.is_meta for p in model.parameters())
    if on_meta and isinstance(error, NotImplementedError | RuntimeError) and "meta" in said.lower():
        next_step = (
            "The model reads values while it runs, and tensors on the meta device have none. "
            "Build it on the CPU, or at a smaller size."
        )
    else:
        next_step = "Give inputs of the shapes and dtypes with which model(...) runs."
    return RecordError(f"{where} on inputs {describe(inputs)}: {said}. {next_step}")


def _raising_module(model: nn.Module, error: BaseException) -> str:
    """Path of the innermost module whose code was running when the error was raised."""
    paths = {id(module): path for path, module in model.named_modules()}
    found, trace = "", error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            found = paths.get(id(owner), found)
        trace = trace.tb_next
    return found


def leaves(value: Any) -> list[torch.Tensor]:
    """The tensors in a value, in order: containers, dataclasses and plain objects are opened."""
    return list(_walk(value, set()))


def _walk(value: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
        return
    if isinstance(value, bool | int | float | complex | str | bytes | type | None | nn.Module):
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        children: list[Any] = list(value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        children = list(value)
    elif dataclasses.is_dataclass(value):
        children = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    elif hasattr(value, "__dict__") and not callable(value):
        children = list(vars(value).values())
    else:
        return
    for child in children:
        yield from _walk(child, seen)


def moved(value: Any, device: torch.device) -> Any:
    """The same value with every tensor in its containers on ``device``."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(moved(v, device) for v in value))
    if isinstance(value, tuple | list):
        return type(value)(moved(v, device) for v in value)
    if isinstance(value, Mapping):
        return {k: moved(v, device) for k, v in value.items()}
    if hasattr(value, "to") and not isinstance(value, type | nn.Module):
        return value.to(device)
    return value
