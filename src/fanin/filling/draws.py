"""What a plan draws into a model, validated before anything is written."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import nn

from fanin.errors import FaninError, PlanError
from fanin.filling.statistics import Measurement, measure_pieces, piece_length
from fanin.graph.graph import ParameterInfo
from fanin.planning.assigning import check_fits
from fanin.planning.assignment import Action, Assignment, Plan
from fanin.planning.parametrised import ParametrisedWeight, parametrised_weights
from fanin.planning.reading import named_tensors_checked, obstacle_to_drawing
from fanin.randomness import Address, Region, fill
from fanin.randomness.checks import check_target
from fanin.randomness.fill import fills_for_certain
from fanin.schemes.scheme import ElementwiseScheme

_Weights = Mapping[str, ParametrisedWeight]
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")


@dataclass(frozen=True)
class Draw:
    """One tensor to draw.

    Args:
        assignment: its scheme, axes and zero rows.
        address: seed and name.
        dtype: of the tensor.
    """

    assignment: Assignment
    address: Address
    dtype: torch.dtype

    def fill(self, target: torch.Tensor) -> None:
        """Write the whole tensor."""
        a = self.assignment
        assert a.scheme is not None
        a.scheme.fill(target, a.axes, self.address)
        for row in a.zero_rows:
            target[row].zero_()

    def certain(self, target: torch.Tensor) -> Callable[[], None] | None:
        """``fill`` of this tensor as a step that can no longer fail, however often it is taken.

        Everything that can go wrong goes wrong here, where nothing is written; None where
        something still could: a function of the user's, a matrix that is built, another device.
        """
        a = self.assignment
        if not isinstance(a.scheme, ElementwiseScheme):
            return None
        if type(a.scheme).fill is not ElementwiseScheme.fill:
            return None
        parts = a.scheme.parts(target, a.axes, self.address)
        for part, distribution, region in parts:
            check_target(part, region)
            if not fills_for_certain(part, distribution):
                return None

        def step() -> None:
            for part, distribution, region in parts:
                fill(part, distribution, self.address, region)
            for row in a.zero_rows:
                target[row].zero_()

        return step

    def measure(self) -> Measurement:
        """Draw an elementwise tensor again, piece by piece, and measure it."""
        return measure_pieces(self._pieces(), self.dtype, self.assignment.shape)

    def _pieces(self) -> Iterator[torch.Tensor]:
        """The tensor's elements in row order, in the pieces that a digest is made of."""
        a = self.assignment
        assert a.scheme is not None
        length, count = piece_length(self.dtype), 0
        held: list[torch.Tensor] = []
        for region in _slabs(a.shape, length):
            slab = torch.empty(region.size, dtype=self.dtype)
            a.scheme.fill(slab, a.axes, self.address, region)
            for row in a.zero_rows:
                inside = row - region.start[0]
                if 0 <= inside < region.size[0]:
                    slab[inside].zero_()
            flat = slab.view(-1)
            while count + flat.numel() >= length:
                cut = length - count
                yield torch.cat([*held, flat[:cut]])
                held, count, flat = [], 0, flat[cut:]
            if flat.numel():
                held.append(flat)
                count += flat.numel()
        if held:
            yield torch.cat(held)


def _slabs(shape: tuple[int, ...], length: int) -> Iterator[Region]:
    """Regions of whole rows in order, of about ``length`` elements each."""
    whole = Region.whole(shape)
    if not shape:
        yield whole
        return
    rows = max(1, length // max(1, prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield whole.narrow(0, start, min(rows, shape[0] - start))


def draws_of(
    plan: Plan, model: nn.Module, seed: int, loaded: Collection[str] = ()
) -> dict[str, Draw]:
    """Parameter name -> what is drawn into it.

    Args:
        plan: what every parameter gets.
        model: any module.
        seed: from 0 to 2**64 - 1.
        loaded: names of tensors that get their values from elsewhere.

    Raises:
        PlanError: the plan does not fit the model: names, shapes, ties, dtypes, or a tensor
            without memory that the plan does not initialise.
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise PlanError(f"seed {seed!r} is not an integer. Give one from 0 to 2**64 - 1.")
    parameters, _ = named_tensors_checked(model)
    weights = parametrised_weights(model)
    check_fits(plan, parameters, type(model).__name__)
    tensors = dict(model.named_parameters(remove_duplicate=False))
    draws: dict[str, Draw] = {}
    for name, a in plan.items():
        _check_tie(name, a, parameters)
        if a.action is Action.INITIALISE:
            if a.scheme is None:
                raise PlanError(f"{name!r}: the plan initialises it, but has no scheme for it.")
            _check_drawable(name, a, tensors[name])
            address = Address(seed, _address_name(name, weights))
            draws[name] = Draw(a, address, tensors[name].dtype)
    _check_memory(plan, {*draws, *loaded}, tensors, weights)
    return draws


def _address_name(name: str, weights: _Weights) -> str:
    """The name that a tensor's numbers hang on, the same in wrapped and compiled models."""
    name = weights[name].effective if name in weights else name
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _check_tie(name: str, a: Assignment, parameters: Mapping[str, ParameterInfo]) -> None:
    owner = parameters[name].tied_to
    if a.action is Action.TIED and owner is None:
        raise PlanError(
            f"the plan says that {name!r} is tied to {a.tied_to!r}, but in this model it is a "
            "tensor of its own. Tie them, or plan again for this model."
        )
    if a.action is Action.INITIALISE and owner is not None:
        raise PlanError(
            f"{name!r} is the same tensor as {owner!r} in this model and cannot be drawn twice. "
            "Plan again for this model."
        )


def _check_drawable(name: str, a: Assignment, tensor: torch.Tensor) -> None:
    assert a.scheme is not None
    if type(tensor).__name__ == "DTensor":
        raise PlanError(f"{name!r} is sharded (DTensor). Initialise the model before sharding it.")
    obstacle = obstacle_to_drawing(tensor)
    if obstacle:
        raise PlanError(f"{name!r} cannot be initialised: {obstacle}. Leave it out of the plan.")
    try:
        a.scheme.expected(a.shape, a.axes)
    except FaninError as error:
        raise PlanError(f"{name!r} of shape {a.shape}: {error}") from error
    if any(not 0 <= row < a.shape[0] for row in a.zero_rows):
        raise PlanError(f"{name!r}: zero_rows {a.zero_rows} lie outside of {a.shape[0]} rows.")


def _check_memory(
    plan: Plan, given: set[str], tensors: Mapping[str, nn.Parameter], weights: _Weights
) -> None:
    """A tensor on the meta device has no value that could be left or kept."""
    if plan.module_function is not None and any(t.is_meta for t in tensors.values()):
        raise PlanError(
            f"{plan.recipe}(module) needs tensors with memory, and the model is on the meta "
            "device. Call model.to_empty(device='cpu') first, or use a recipe by name."
        )
    drawn = {id(tensors[name]) for name in given if name in tensors}
    drawn |= {id(tensors[n]) for n, w in weights.items() if w.carrier in given}
    on_meta = [n for n, t in tensors.items() if t.is_meta and id(t) not in drawn]
    if on_meta:
        name = on_meta[0]
        why = plan[name].reason if name in plan else "the plan does not name it"
        more = f" and {len(on_meta) - 1} more" if len(on_meta) > 1 else ""
        raise PlanError(
            f"{name!r}{more} would stay on the meta device, without memory ({why}). Give it a "
            "scheme with overrides, or load it with fanin.adopt."
        )
