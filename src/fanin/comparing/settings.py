"""How a study was made, in plain JSON values: what a reader needs to make it again."""

import platform
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from fanin.comparing.course import Course
from fanin.comparing.dataset import Samples, Split
from fanin.comparing.networks import Network
from fanin.comparing.recipes import Arm, key_of
from fanin.comparing.serial import plain


def course_identity(course: Course) -> dict[str, object]:
    """What decides the result of a trial besides network, recipe, learning rate and seed."""
    from fanin import __version__

    return {
        "fanin": __version__,
        "torch": torch.__version__,
        "data": data_digest(course),
        "task": course.task.name if course.task.function is None else key_of(course.task.function),
        "optimizer": (
            course.optimizer.name
            if course.optimizer.make is None
            else key_of(course.optimizer.make)
        ),
        "held_out_steps": course.held_out_steps,
        "gradient_steps": course.gradient_steps,
    }


def data_digest(course: Course) -> str:
    """Digest of every number that is trained on or looked at, and of the order of the batches."""
    digest = blake2b(digest_size=16)
    sets: list[Samples] = [course.train, *([course.held_out] if course.held_out else [])]
    tensors = [t for s in sets for t in (*tree_flatten(s.x)[0], s.y)]
    for tensor in (*tensors, course.batches):
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        plain_bytes = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(plain_bytes.numpy().tobytes())
    return digest.hexdigest()


def describe(
    networks: Sequence[Network],
    arms: Sequence[Arm],
    split: Split,
    course: Course,
    seeds: Sequence[int],
    rates: Sequence[float],
    trained: Mapping[str, str],
    targets: Mapping[str, float | None],
    classes: Mapping[str, int | None],
    device: str,
    command: str,
) -> dict[str, Any]:
    """The settings of a study, as they stand in its JSON and its report."""
    from fanin import __version__

    settings = {
        "command": command,
        "models": [n.name for n in networks],
        "descriptions": {n.name: _description(n, trained) for n in networks},
        "parameters": {n.name: n.parameters for n in networks},
        "classes": dict(classes),
        "target_loss": common_target(targets),
        "target_losses": dict(targets),
        "data": split.name,
        "training_samples": split.samples,
        "held_out_samples": len(course.held_out) if course.held_out else 0,
        "recipes": [arm.label for arm in arms],
        "recipe_values": {arm.label: _value(arm) for arm in arms},
        "seeds": list(seeds),
        "steps": course.steps,
        "batch_size": course.batches.shape[1],
        "batches": "the same in the same order for every trial",
        "optimizer": course.optimizer.description,
        "loss": course.task.name,
        "learning_rates": list(rates),
        "learning_rate_rule": (
            "every recipe gets the same learning rates; each is shown at the one with the fewest "
            "diverged seeds, then the lowest mean final training loss"
        ),
        "target_rule": (
            "half of what knowing nothing costs: ½ ln C for cross-entropy, half the variance of "
            "the targets for the mean squared error; mean of five steps"
        ),
        "device": device,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fanin": __version__,
    }
    result: dict[str, Any] = plain(settings)
    return result


def common_target(targets: Mapping[str, float | None]) -> float | None:
    """The target loss if it is the same for every network, else None."""
    values = set(targets.values())
    return values.pop() if len(values) == 1 else None


def _description(network: Network, trained: Mapping[str, str]) -> str:
    text = f"{network.kind}, {network.parameters:,} parameters"
    how = trained.get(network.name)
    return f"{text}, trained {how}" if how else text


def _value(arm: Arm) -> str:
    return arm.recipe if isinstance(arm.recipe, str) else arm.key
