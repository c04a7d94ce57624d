"""``apply`` and ``initialize``: write the numbers of a plan into a model, wholly or not at all."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from fanin.errors import FaninError, PlanError
from fanin.filling.draws import Draw, draws_of
from fanin.filling.ledger import Ledger, Status
from fanin.filling.module_function import run_module_function
from fanin.filling.rebuilding import rebuild_meta_buffers
from fanin.filling.through import write_through
from fanin.filling.transaction import Transaction, Writable
from fanin.filling.verdicts import Verdict, entries_of
from fanin.graph.inventory import named_tensors
from fanin.planning.assignment import Action, Plan
from fanin.planning.overrides import Keep, Overrides
from fanin.planning.parametrised import ParametrisedWeight, parametrised_weights
from fanin.planning.planner import AnyRecipe
from fanin.planning.planner import plan as make_plan
from fanin.schemes.scheme import ElementwiseScheme


def apply(plan: Plan, model: nn.Module, *, seed: int = 0) -> Ledger:
    """Write a plan's numbers into a model, in place.

    Everything is validated before the first write.  What can fail is written first, and copied
    before: if it fails, Ctrl-C included, the model is exactly as it was.  What can no longer fail,
    which is most of a model in the CPU's memory, is written at the end, without a copy; Ctrl-C is
    then obeyed as soon as the model is wholly written.

    Parameter objects stay the same ones; tied weights are drawn once; integer tensors and buffers
    are not touched.  A model on the meta device is given memory on the CPU, and its buffers are
    computed as their modules' constructors do.  The running statistics of norms are left as they
    are: ``module.reset_running_stats()`` resets them.

    The number at each element depends on the seed, the parameter's name and the element's index
    alone.  A function ``f(module)`` draws from torch's generator, seeded with ``seed``, and that
    generator is put back afterwards.

    Args:
        plan: what every parameter gets.
        model: the model that it was made for, or one with the same names and shapes.
        seed: from 0 to 2**64 - 1.

    Returns:
        What was done to every parameter and buffer.

    Raises:
        PlanError: the plan does not fit the model; nothing was changed.

    Examples:
        >>> from torch import nn
        >>> import fanin
        >>> layer = nn.Linear(3, 2)
        >>> ledger = fanin.apply(fanin.plan(layer, recipe="ones"), layer)
        >>> layer.weight.tolist(), ledger["weight"].mean
        ([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], 1.0)
    """
    with torch.no_grad(), Transaction(model) as transaction:
        verdicts = fill_model(plan, model, transaction, seed)
    return Ledger(plan.recipe, seed, entries_of(verdicts, model), plan.advice)


def initialize(
    model: nn.Module,
    inputs: Any = None,
    recipe: AnyRecipe = "auto",
    *,
    overrides: Overrides | None = None,
    keep: Keep = (),
    seed: int = 0,
) -> Ledger:
    """Plan, then apply; see ``fanin.plan`` and ``fanin.apply`` for the arguments.

    Examples:
        >>> from torch import nn
        >>> import fanin
        >>> ledger = fanin.initialize(nn.Linear(4, 2), recipe="kaiming_normal", seed=1)
        >>> [(name, entry.status.value) for name, entry in ledger.items()]
        [('weight', 'initialised'), ('bias', 'initialised')]
    """
    made = make_plan(model, inputs, recipe, overrides=overrides, keep=keep, seed=seed)
    return apply(made, model, seed=seed)


def fill_model(
    plan: Plan,
    model: nn.Module,
    transaction: Transaction,
    seed: int,
    loaded: Collection[str] = (),
) -> dict[str, Verdict]:
    """Everything that ``apply`` writes, inside a transaction; a verdict for every tensor.

    Tensors named in ``loaded`` will be written by the caller, who retells their verdicts.
    """
    draws = draws_of(plan, model, seed, loaded)
    weights = parametrised_weights(model)
    buffers = named_tensors(model)[1].infos
    changed: Mapping[str, str] = {}
    if plan.module_function is not None:
        changed = run_module_function(plan, model, transaction, seed)
    restarted: set[str] = set()
    for draw in draws.values():
        restarted |= _draw(draw, model, transaction, seed, weights)
    rebuilt = rebuild_meta_buffers(model, transaction, seed)
    verdicts: dict[str, Verdict] = {}
    for name, _ in model.named_parameters(remove_duplicate=False):
        verdicts[name] = _verdict(name, plan, draws, weights, changed)
    for name, info in buffers.items():
        if info.tied_to is not None:
            verdicts[name] = Verdict(Status.TIED, f"buffer: the same tensor as {info.tied_to}")
        elif name in rebuilt:
            verdicts[name] = Verdict(Status.INITIALISED, f"buffer: {rebuilt[name]}")
        elif name in changed:
            verdicts[name] = Verdict(Status.INITIALISED, f"buffer: {changed[name]}")
        elif name in restarted:
            why = "buffer: recomputed for the weight that was drawn"
            verdicts[name] = Verdict(Status.INITIALISED, why)
        else:
            verdicts[name] = Verdict(Status.LEFT, "buffer: as it was")
    return verdicts


_STATUS = {
    Action.INITIALISE: Status.INITIALISED,
    Action.DERIVED: Status.INITIALISED,
    Action.KEEP: Status.KEPT,
    Action.TIED: Status.TIED,
    Action.LEAVE: Status.LEFT,
}


def _draw(
    draw: Draw,
    model: nn.Module,
    transaction: Transaction,
    seed: int,
    weights: Mapping[str, ParametrisedWeight],
) -> set[str]:
    """Draw one tensor; returns the buffers that were recomputed for it."""
    a, weight = draw.assignment, weights.get(draw.assignment.parameter)
    try:
        if weight is None:
            _draw_plain(draw, transaction)
            return set()
        like = transaction.tensor(a.parameter)
        device = "cpu" if like.is_meta else like.device
        values = torch.empty(a.shape, dtype=like.dtype, device=device)
        draw.fill(values)
        return write_through(model, weight, values, transaction, seed)
    except FaninError as error:
        if isinstance(error, PlanError):
            raise
        raise PlanError(f"{a.parameter!r} of shape {a.shape}: {error}") from error


def _draw_plain(draw: Draw, transaction: Transaction) -> None:
    name = draw.assignment.parameter
    if not transaction.is_open(name):
        target = transaction.tensor(name)
        step = None if target.is_meta else draw.certain(target)
        if step is not None:
            transaction.at_last(target, step)
            return
    target = transaction.open(name)
    with Writable(target):
        draw.fill(target)


def _verdict(
    name: str,
    plan: Plan,
    draws: Mapping[str, Draw],
    weights: Mapping[str, ParametrisedWeight],
    changed: Mapping[str, str],
) -> Verdict:
    if name in draws:
        draw, a = draws[name], plan[name]
        # Measured where it stands, not drawn again: what a parametrisation stores is not what
        # was drawn, and a matrix scheme takes longer to build than to read.
        again = name not in weights and isinstance(a.scheme, ElementwiseScheme)
        measure = draw.measure if again else None
        expected = a.std if name not in weights else None
        return Verdict(Status.INITIALISED, a.reason, a.scheme, expected, measure)
    if name in changed:
        return Verdict(Status.INITIALISED, changed[name])
    if name not in plan:
        return Verdict(Status.LEFT, "left: the plan does not name it")
    a = plan[name]
    return Verdict(_STATUS[a.action], a.reason)
