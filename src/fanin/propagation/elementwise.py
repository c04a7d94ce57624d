"""Whether an operation maps every element on its own: by its tag, or by trying it."""

from typing import Any

import torch

from fanin.propagation.call import CANNOT_RUN, Call, rebuilt_arguments, resolve


def is_pointwise(call: Call) -> bool:
    """Whether the recorded operation maps every element on its own."""
    function = resolve(call.operation.name, call.operation.overload)
    if torch.Tag.pointwise in getattr(function, "tags", ()):
        return True
    tensors = set(call.operation.inputs)
    if function is None or len(tensors) != 1 or not call.operation.outputs:
        return False
    if call.graph.tensors[call.operation.inputs[0]].shape != call.shape():
        return False
    return _found_elementwise(call)


def first_of(result: Any) -> Any:
    """The first output of an operation that returns several."""
    return result[0] if isinstance(result, tuple) else result


_tried: dict[tuple[str, str], bool] = {}


def _found_elementwise(call: Call) -> bool:
    """Whether an untagged operation of one tensor proves elementwise: by trying it.

    On numbers in another order, and on some of them alone, it must give the same values, twice.
    """
    key = (call.operation.name, call.operation.overload)
    if key not in _tried:
        points = torch.linspace(-3, 3, 24, dtype=torch.float64).reshape(4, 6)
        mixed = points.flatten().flip(0).reshape(4, 6)

        def run(x: torch.Tensor) -> torch.Tensor | None:
            args, kwargs = rebuilt_arguments(call.operation, {call.operation.inputs[0]: x})
            function = resolve(*key)
            try:
                with torch.no_grad():
                    out = first_of(function(*args, **kwargs)) if function is not None else None
            except CANNOT_RUN:
                return None
            fits = isinstance(out, torch.Tensor) and out.shape == x.shape
            return out if fits else None

        one, two, part = run(points), run(mixed), run(points[:2])
        again = run(points)
        _tried[key] = (
            one is not None and two is not None and part is not None and again is not None
            and torch.equal(two, one.flatten().flip(0).reshape(4, 6))
            and torch.equal(part, one[:2]) and torch.equal(one, again)
        )  # fmt: skip
    return _tried[key]
