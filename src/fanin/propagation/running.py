"""Recorded operations run on samples, all runs at once where they can be batched."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from fanin.graph.graph import Ref
from fanin.propagation.call import CANNOT_RUN, Call, rebuilt_arguments, resolve
from fanin.propagation.drawing import Drawn, drawn_inputs
from fanin.propagation.families.memory import written

Once = Callable[[Mapping[int, torch.Tensor]], list[torch.Tensor]]


def run_on(call: Call, drawn: Drawn) -> list[torch.Tensor | None] | None:
    """Outputs of the recorded operation, each ``(runs, *shape)``.

    None, and a note, where the operation cannot run; None for an output whose shape differs from
    run to run.
    """
    if call.name == "updated":
        return _updated(call, drawn)
    once = _once(call)
    if once is None:
        return None
    if drawn.varying and drawn.runs > 1 and _can_be_batched(call):
        try:
            found = torch.vmap(lambda varying: once({**drawn.fixed, **varying}))(drawn.varying)
            return list(found)
        except CANNOT_RUN:
            pass  # no rule for batches of it: run by run
    rows = []
    for run in range(drawn.runs):
        tensors = {**drawn.fixed, **{t: rows[run] for t, rows in drawn.varying.items()}}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(call.operation.index + (run << 32))
            try:
                rows.append(once(tensors))
            except CANNOT_RUN as error:
                text = f"{call.operation.name} could not be run on samples: {error}"
                call.parts.note(text.split("\n")[0])
                return None
    return [_stacked([row[k] for row in rows]) for k in range(len(rows[0]))]


def run_drawn(call: Call, runs: int, *, in_loop: bool = False
              ) -> tuple[Drawn, list[torch.Tensor | None]] | None:  # fmt: skip
    """What so many runs of an operation read and made; None where it cannot run."""
    drawn = drawn_inputs(call, runs, in_loop=in_loop)
    with torch.no_grad():
        made = None if drawn is None else run_on(call, drawn)
    return None if drawn is None or made is None else (drawn, made)


def differentiated(
    call: Call, drawn: Drawn, cotangents: Callable[[int, torch.Tensor], torch.Tensor | None]
) -> dict[int, torch.Tensor] | None:
    """Gradients of the inputs that hold real numbers, each ``(runs, *shape)``.

    Args:
        call: the operation.
        drawn: what it reads.
        cotangents: output number and value -> the gradient that reaches it; None for none.

    Returns:
        By tensor; None where the operation cannot run or nothing comes back.
    """
    everything = {t: v.expand(drawn.runs, *v.shape) for t, v in drawn.fixed.items()}
    everything.update(drawn.varying)
    inputs = {t: v.detach().clone().requires_grad_() for t, v in everything.items()
              if v.is_floating_point()}  # fmt: skip
    fixed = {t: v for t, v in drawn.fixed.items() if t not in inputs}
    with torch.enable_grad():
        made = run_on(call, Drawn(drawn.runs, {**drawn.varying, **inputs}, fixed))
    ways = []
    for k, value in enumerate(made or []):
        if value is not None and value.requires_grad:
            cotangent = cotangents(k, value)
            if cotangent is not None:
                ways.append((value, cotangent.to(value)))
    if not ways:
        return None
    found = torch.autograd.grad(
        [value for value, _ in ways], list(inputs.values()), [cotangent for _, cotangent in ways],
        allow_unused=True, materialize_grads=True,
    )  # fmt: skip
    return dict(zip(inputs, found, strict=True))


def _once(call: Call) -> Once | None:
    """One run: tensors by id -> the outputs that are tensors."""
    operation = call.operation
    if operation.overload == "shared_memory":
        made, (first, *others) = call.shape(), operation.inputs
        given = call.graph.tensors[first].shape
        if others or [n for n in given if n != 1] != [n for n in made if n != 1]:
            return None
        return lambda tensors: [tensors[first].reshape(made).clone()]
    if call.name == "copy":
        # The functional copy of ATen has no derivative.
        source, shape = call.tensor(1), call.shape()
        if source is None:
            return None
        return lambda tensors: [tensors[source].expand(shape).clone()]
    function = resolve(operation.name, operation.overload)
    if call.name in ("view", "_unsafe_view") and operation.overload == "default":
        function = torch.ops.aten.reshape.default  # samples need not lie as the tensor did
    if function is None:
        return None

    def once(tensors: Mapping[int, torch.Tensor]) -> list[torch.Tensor]:
        args, kwargs = rebuilt_arguments(operation, tensors)
        result: Any = function(*args, **kwargs)
        values = [result] if isinstance(result, torch.Tensor) else list(result)
        return [value for value in values if isinstance(value, torch.Tensor)]

    return once


def _updated(call: Call, drawn: Drawn) -> list[torch.Tensor | None] | None:
    """Memory written through other views: the parts in their places."""
    refs = [ref.tensor for ref in call.operation.args if isinstance(ref, Ref)]
    values = {t: v.expand(drawn.runs, *v.shape) for t, v in drawn.fixed.items()} | drawn.varying
    whole = values[refs[0]].clone()
    for tensor in refs[1:]:
        box = written(call, tensor, call.shape())
        if box is None:
            return None
        place = whole
        for dim, part in box:
            place = place[(slice(None),) * (dim + 1) + (part,)]
        place.copy_(values[tensor])
    return [whole]


def _can_be_batched(call: Call) -> bool:
    """Whether torch has a rule for batches of it; chance is drawn run by run."""
    function = resolve(call.operation.name, call.operation.overload)
    if call.operation.overload == "shared_memory" or call.name == "copy":
        return True
    if not isinstance(function, torch._ops.OpOverload):
        return False
    name: str = function._schema.name + "." * bool(function._schema.overload_name)
    name += function._schema.overload_name
    return torch.Tag.nondeterministic_seeded not in function.tags and any(
        torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for key in _BATCHED
    )


_BATCHED = ("FuncTorchBatched", "FuncTorchBatchedDecomposition", "CompositeImplicitAutograd")


def _stacked(results: list[torch.Tensor]) -> torch.Tensor | None:
    same = all(result.shape == results[0].shape for result in results)
    return torch.stack(results) if same else None
