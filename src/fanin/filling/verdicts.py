"""From verdicts to ledger entries: what was done is known; what stands there is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from fanin.filling.ledger import Entry, Status
from fanin.filling.statistics import Measurement, measure_all
from fanin.schemes.scheme import Scheme


@dataclass(frozen=True)
class Verdict:
    """What was done to one tensor.

    Args:
        status, scheme, reason, expected_std: as in ``Entry``.
        measure: measures the tensor as it was written, when asked; None to measure it now.
    """

    status: Status
    reason: str
    scheme: Scheme | None = None
    expected_std: float | None = None
    measure: Callable[[], Measurement] | None = None


def entries_of(verdicts: Mapping[str, Verdict], model: nn.Module) -> dict[str, Entry]:
    """An entry for every verdict; a tensor with several names is measured once."""
    tensors: dict[str, torch.Tensor] = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    owners: dict[int, str] = {}
    for name in verdicts:
        owners.setdefault(id(tensors[name]), name)
    now = {n: tensors[n] for n in owners.values() if verdicts[n].measure is None}
    measured = measure_all(now)
    made: dict[str, Entry] = {}
    for name, verdict in verdicts.items():
        owner = owners[id(tensors[name])]
        made[name] = _entry(verdict, tuple(tensors[name].shape), measured.get(owner), made, owner)
    return made


def _entry(
    verdict: Verdict,
    shape: tuple[int, ...],
    found: Measurement | None,
    made: Mapping[str, Entry],
    owner: str,
) -> Entry:
    v = verdict
    if found is not None:
        return Entry(
            v.status, v.scheme, v.reason, v.expected_std, found.mean, found.std, found.digest, shape
        )

    def of_owner() -> Measurement:
        entry = made[owner]
        return Measurement(entry.mean, entry.std, entry.digest)

    measure = v.measure or of_owner
    return Entry.deferred(v.status, v.scheme, v.reason, v.expected_std, shape, measure)
