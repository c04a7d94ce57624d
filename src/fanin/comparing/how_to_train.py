"""Train together or one by one?  Whichever is right first, and faster second."""

import copy
import warnings
from collections.abc import Sequence

import torch
from torch import nn

from fanin.comparing.course import Course
from fanin.comparing.ensemble import Ensemble
from fanin.comparing.one_by_one import device_of, run
from fanin.errors import unknown_name

ENGINES = ("local", "together", "one by one")
"""local: whichever is faster for this network; the other two: as they say."""

MOST_PARAMETERS_TOGETHER = 300_000
"""Networks with more parameters keep both cores busy alone; see benchmarks/ensemble.py."""

MOST_NUMBERS_IN_A_STACK = 1 << 24
"""Weights stacked at once, all networks together: with gradients and momentum, 200 MB."""


MOST_BYTES_SAVED = 1 << 29
"""Activations that one stack may keep for its backward pass: half a gigabyte a thread."""


def check_engine(engine: str) -> None:
    """Raise UnknownNameError unless the engine is one of ``ENGINES``."""
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES, "help(fanin.compare)")


def stack_size(parameters: int, saved_bytes: int) -> int:
    """How many networks are stacked at most.

    Args:
        parameters: of one network.
        saved_bytes: what one network keeps of a batch for its backward pass.
    """
    by_weights = MOST_NUMBERS_IN_A_STACK // max(1, parameters)
    by_activations = MOST_BYTES_SAVED // max(1, saved_bytes)
    return max(1, min(by_weights, by_activations))


def saved_bytes(model: nn.Module, course: Course) -> int:
    """Bytes that one training step of the network keeps for the backward pass."""
    storages: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    model = copy.deepcopy(model)
    batch = course.to(device_of(model)).batch(0)
    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
        loss = course.task.loss(run(model, batch.x), batch.y)
    del loss
    return sum(storages.values())


def why_one_by_one(
    models: Sequence[nn.Module], course: Course, engine: str, parameters: int
) -> str:
    """Empty if these networks train together; else the reason why they train one by one.

    Args:
        models: two or more of the network, initialised; left as they are.
        course: of the study.
        engine: what was asked for.
        parameters: of one network.
    """
    if engine == "one by one":
        return "as asked"
    if course.optimizer.make is not None:
        return f"{course.optimizer.name} is not stacked"
    if engine == "local" and parameters > MOST_PARAMETERS_TOGETHER:
        return f"{parameters:,} parameters are faster so"
    return _cannot_be_stacked([copy.deepcopy(m) for m in models[:2]], course)


def _cannot_be_stacked(models: Sequence[nn.Module], course: Course) -> str:
    # Two networks on one batch, both ways, in training mode: losses, gradients and buffers must
    # agree.  That finds random layers, flow that depends on data, and buffers that vmap shares.
    batch = course.to(device_of(models[0])).batch(0)
    for model in models:
        model.train()
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            ensemble = Ensemble(models)
            ensemble.template.train()
            losses, _ = ensemble.run(course, batch.x, batch.y)
            stacked = torch.autograd.grad(
                losses.sum(), list(ensemble.trainable.values()), allow_unused=True
            )
    except Exception as error:
        # Whatever vmap cannot do, plain PyTorch can: the reason is kept for the settings.
        return _why_vmap_fails(error)
    if any("batching rule" in str(w.message) for w in warned):
        return "vmap runs one of its operations network by network"
    for index, model in enumerate(models):
        loss = course.task.loss(run(model, batch.x), batch.y)
        if not _agree(losses[index], loss):
            return "its loss differs when stacked"
        named = {n: p for n, p in model.named_parameters() if p.requires_grad}
        alone = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        # A bias before a batch norm has gradient 0, of which rounding makes noise: what agrees
        # is judged by the size of all gradients.
        largest = max((_largest(g) for g in alone if g is not None), default=0.0)
        for one, many in zip(alone, stacked, strict=True):
            if (one is None) != (many is None):
                return "its gradients differ when stacked"
            if one is not None and many is not None and not _agree(many[index], one, largest):
                return "its gradients differ when stacked"
        for name, buffer in model.named_buffers():
            if not _agree(ensemble.buffers[name][index], buffer):
                return "its buffers differ when stacked"
    return ""


def _agree(first: torch.Tensor, second: torch.Tensor, scale: float | None = None) -> bool:
    first, second = first.detach().double(), second.detach().double()
    scale = _largest(second) if scale is None else scale
    # Batched products round differently, by a few units in the last place of the largest terms.
    return torch.allclose(first, second, rtol=1e-3, atol=1e-5 * scale, equal_nan=True)


def _largest(tensor: torch.Tensor) -> float:
    return float(tensor.nan_to_num(0.0, 0.0, 0.0).abs().max()) if tensor.numel() else 0.0


def _why_vmap_fails(error: Exception) -> str:
    text = (str(error).strip() or "no message").splitlines()[0]
    if "randomness" in text:
        return "it draws random numbers while it runs, as dropout does"
    first_sentence = text.removeprefix("vmap: ").split(". ")[0]
    return f"vmap cannot run it ({type(error).__name__}: {first_sentence[:120]})"
