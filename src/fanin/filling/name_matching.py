"""Which tensor of a checkpoint belongs to which name of a model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fanin.errors import CheckpointError, nearest_names

_KNOWN_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "state_dict.")


@dataclass(frozen=True)
class Matches:
    """Model name -> checkpoint name, and the prefix that was taken off or put on."""

    names: Mapping[str, str]
    note: str = ""


def match_names(
    model: Mapping[str, tuple[int, ...]], checkpoint: Mapping[str, tuple[int, ...]], where: str
) -> Matches:
    """Match names as they are; else with one prefix taken off or put on, where only one fits.

    Args:
        model: name -> shape.
        checkpoint: name -> shape.
        where: the checkpoint, for messages.

    Raises:
        CheckpointError: nothing matches, or two prefixes match equally well.
    """
    scored: dict[str, tuple[int, dict[str, str]]] = {}
    for label, rename in _renamings(model, checkpoint).items():
        names = {new: old for old in checkpoint if (new := rename(old)) in model}
        fitting = sum(model[new] == checkpoint[old] for new, old in names.items())
        # Names alone count where no shape fits: a checkpoint of another width is told as such.
        if names and (fitting or label == ""):
            scored[label] = (fitting, names)
    if not scored:
        raise _nothing_matches(model, checkpoint, where)
    most = max(score for score, _ in scored.values())
    best = [label for label, (score, _) in scored.items() if score == most]
    if "" in best:
        best = [""]
    different = {tuple(sorted(scored[label][1].items())) for label in best}
    if len(different) > 1:
        raise CheckpointError(
            f"{where}: its names fit this model in more than one way ({' or '.join(best)}). "
            "Rename the keys yourself and pass the state dict."
        )
    if most == 0:
        raise _nothing_matches(model, checkpoint, where, shapes=True)
    return Matches(scored[best[0]][1], best[0])


def _renamings(model: Iterable[str], checkpoint: Iterable[str]) -> dict[str, Callable[[str], str]]:
    """Label -> renaming; the empty label is the identity."""
    renamings: dict[str, Callable[[str], str]] = {"": lambda name: name}
    off = {*_KNOWN_PREFIXES, *(f"{name.split('.')[0]}." for name in checkpoint if "." in name)}
    on = {*_KNOWN_PREFIXES, *(f"{name.split('.')[0]}." for name in model if "." in name)}
    for prefix in sorted(off):
        renamings[f"the prefix {prefix!r} was taken off the checkpoint's names"] = (
            lambda name, prefix=prefix: (  # type: ignore[misc]
                name.removeprefix(prefix) if name.startswith(prefix) else "\0"
            )
        )
    for prefix in sorted(on):
        renamings[f"the prefix {prefix!r} was put before the checkpoint's names"] = (
            lambda name, prefix=prefix: prefix + name  # type: ignore[misc]
        )
    return renamings


def _nothing_matches(
    model: Mapping[str, tuple[int, ...]],
    checkpoint: Mapping[str, tuple[int, ...]],
    where: str,
    *,
    shapes: bool = False,
) -> CheckpointError:
    name = next(iter(model), "")
    if shapes:
        shared = next(n for n in model if n in checkpoint)
        return CheckpointError(
            f"{where}: no tensor has the model's shape: {shared!r} is {checkpoint[shared]} there "
            f"and {model[shared]} here. Build the model with the checkpoint's sizes."
        )
    nearest = ", ".join(nearest_names(name, checkpoint)) or "none"
    return CheckpointError(
        f"{where}: none of its {len(checkpoint)} tensors has a name of this model. "
        f"For {name!r} the nearest are {nearest}. Rename the keys and pass the state dict."
    )
