"""``adopt``: load what a checkpoint holds, initialise only the rest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fanin.errors import CheckpointError, PlanError
from fanin.filling.applying import fill_model
from fanin.filling.checkpoint import Source, StoredTensor, read_checkpoint
from fanin.filling.ledger import Ledger, Status
from fanin.filling.name_matching import match_names
from fanin.filling.transaction import Transaction
from fanin.filling.verdicts import Verdict, entries_of
from fanin.graph.graph import ParameterInfo
from fanin.graph.inventory import named_tensors
from fanin.planning.assignment import Plan
from fanin.planning.parametrised import parametrised_weights
from fanin.planning.planner import AnyRecipe, find_recipe, plan
from fanin.planning.reading import named_tensors_checked
from fanin.planning.recipe import DataRecipe, GraphUse, Recipe


def adopt(
    model: nn.Module,
    checkpoint: Source,
    inputs: Any = None,
    *,
    recipe: AnyRecipe = "auto",
    seed: int = 0,
) -> Ledger:
    """Load every tensor of a checkpoint that fits the model; initialise only the others.

    What fits by name and shape is loaded, buffers included, byte for byte.  The model keeps its
    dtypes: where the checkpoint has another one, the ledger says whether the values are exact
    (bfloat16 into float32) or rounded.  A prefix such as ``module.`` is taken off or put on where
    that is the only way in which names fit.  A parameter that is missing, or has another shape,
    is initialised by the recipe; a buffer that is missing stays.  The model is changed wholly or
    not at all.

    Args:
        model: any module, also on the meta device.
        checkpoint: path of a ``.safetensors``, ``.safetensors.index.json``, ``.pt``, ``.pth`` or
            ``.bin`` file (torch files with ``weights_only=True``), a folder that transformers
            saved, or a state dict.
        inputs: for recipes that need the graph; not needed where nothing is missing.
        recipe: as in ``fanin.plan``; it decides for the missing parameters only.
        seed: as in ``fanin.apply``.

    Returns:
        For every parameter and buffer whether it was loaded, initialised or left, and why.

    Raises:
        CheckpointError: the checkpoint cannot be read, or nothing of it fits.
        PlanError: the recipe cannot decide for what is missing.
    """
    named_tensors_checked(model)
    source = read_checkpoint(checkpoint)
    parameters, buffers = (named.infos for named in named_tensors(model))
    infos = {**parameters, **buffers}
    shapes = {name: info.shape for name, info in infos.items()}
    stored_shapes = {name: stored.shape for name, stored in source.tensors.items()}
    matches = match_names(shapes, stored_shapes, source.where)
    fits = _Fits.of(infos, matches.names, source.tensors)
    made = _plan_for_missing(model, inputs, recipe, fits, parameters)
    with torch.no_grad(), Transaction(model) as transaction:
        for name in fits.loaded:
            # Opened first: a tensor on the meta device then counts as written.
            transaction.open(name)
        verdicts = fill_model(made, model, transaction, seed, fits.loaded)
        # Loaded last: what was drawn through a parametrisation must not stay in a loaded tensor.
        for name, key in fits.loaded.items():
            transaction.write(name, source.tensors[key].read())
    _retell(verdicts, fits, infos, source.tensors)
    notes = [*source.notes, *([matches.note] if matches.note else []), *made.advice]
    unused = [key for key in source.tensors if key not in set(matches.names.values())]
    if unused:
        shown = ", ".join(unused[:3]) + (", …" if len(unused) > 3 else "")
        notes.append(f"{len(unused)} tensors of the checkpoint are not in the model: {shown}")
    return Ledger(made.recipe, seed, entries_of(verdicts, model), tuple(notes))


@dataclass(frozen=True)
class _Fits:
    """What can be loaded.

    Args:
        loaded: first name of a tensor of the model -> name in the checkpoint.
        misfits: name -> why it was not loaded although its name was found.
    """

    loaded: Mapping[str, str]
    misfits: Mapping[str, str]

    @classmethod
    def of(
        cls,
        infos: Mapping[str, ParameterInfo],
        names: Mapping[str, str],
        stored: Mapping[str, StoredTensor],
    ) -> "_Fits":
        loaded: dict[str, str] = {}
        misfits: dict[str, str] = {}
        for name, info in infos.items():
            key = names.get(name)
            if key is None:
                continue
            owner = info.tied_to or name
            if stored[key].shape != info.shape:
                misfits[name] = f"{stored[key].shape} in the checkpoint, {info.shape} here"
                continue
            _check_kinds(name, info, stored[key])
            if owner not in loaded:
                loaded[owner] = key
            elif not _equal(stored[loaded[owner]].read(), stored[key].read()):
                raise CheckpointError(
                    f"{owner!r} and {name!r} are one tensor in this model, but differ in the "
                    "checkpoint. Untie them, or take one of them out of the state dict."
                )
        return cls(loaded, misfits)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def _check_kinds(name: str, info: ParameterInfo, stored: StoredTensor) -> None:
    """Floats do not become integers, nor the reverse: such a tensor means something else."""
    here = getattr(torch, info.dtype)
    if here.is_floating_point != stored.dtype.is_floating_point:
        there = str(stored.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{name!r} is {info.dtype} in the model and {there} in the checkpoint: one of them "
            "is quantised. Convert the checkpoint first."
        )


def _plan_for_missing(
    model: nn.Module,
    inputs: Any,
    recipe: AnyRecipe,
    fits: _Fits,
    parameters: Mapping[str, ParameterInfo],
) -> Plan:
    chosen = find_recipe(recipe)
    missing = [n for n, i in parameters.items() if not i.tied_to and n not in fits.loaded]
    label = recipe if isinstance(recipe, str) else getattr(chosen, "name", "a function")
    if not missing:
        # A model that is loaded whole needs no recipe, and so no inputs.
        loaded = plan(model, None, "shipped")
        return Plan(str(label), loaded.model_type, loaded.assignments)
    if isinstance(chosen, DataRecipe):
        # It would measure with what stands in the model now, not with what is loaded into it.
        raise PlanError(
            f"recipe {chosen.name!r} measures on the loaded tensors, so they must be there first: "
            "load with fanin.adopt(model, checkpoint, recipe='shipped'), then "
            f"fanin.initialize(model, batch, {chosen.name!r}, keep=checkpoint's names)."
        )
    needs = isinstance(chosen, Recipe) and chosen.graph is GraphUse.NEEDED
    if needs and inputs is None:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise PlanError(
            f"{missing[0]!r}{more} must be initialised, and recipe {label!r} reads how it is "
            f"used: pass inputs to run the model on, or a recipe such as 'torch'."
        )
    # The magnitude of a weight_norm alone does not keep its direction: it is loaded over it.
    followers = {n for weight in parametrised_weights(model).values() for n in weight.derived}
    kept = [n for n in fits.loaded if n in parameters and n not in followers]
    return plan(model, inputs, recipe, keep=kept)


def _retell(
    verdicts: dict[str, Verdict],
    fits: _Fits,
    infos: Mapping[str, ParameterInfo],
    stored: Mapping[str, StoredTensor],
) -> None:
    """Say of every tensor whether it came from the checkpoint, and why not."""
    for name, verdict in verdicts.items():
        info = infos[name]
        if name in fits.loaded:
            key = fits.loaded[name]
            verdicts[name] = Verdict(Status.LOADED, _loaded_reason(name, key, info, stored[key]))
        elif info.tied_to is not None:
            continue
        else:
            why = fits.misfits.get(name, "not in the checkpoint")
            verdicts[name] = Verdict(
                verdict.status,
                f"{why}; {verdict.reason}",
                verdict.scheme,
                verdict.expected_std,
                verdict.measure,
            )


def _loaded_reason(name: str, key: str, info: ParameterInfo, stored: StoredTensor) -> str:
    reason = "loaded" if key == name else f"loaded from {key!r}"
    here = getattr(torch, info.dtype)
    if stored.dtype == here:
        return reason
    there = str(stored.dtype).removeprefix("torch.")
    how = "exact" if _holds(here, stored.dtype) else "rounded"
    return f"{reason}, {there} to {info.dtype}: {how}"


def _holds(wide: torch.dtype, narrow: torch.dtype) -> bool:
    """Every value of ``narrow`` is a value of ``wide``."""
    if not (wide.is_floating_point and narrow.is_floating_point):
        return torch.promote_types(wide, narrow) == wide
    a, b = torch.finfo(wide), torch.finfo(narrow)
    return a.eps <= b.eps and a.max >= b.max and a.smallest_normal <= b.smallest_normal
