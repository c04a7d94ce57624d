"""Which value of the graph a tensor holds.

Two tensors hold the same value when they are the same object, or when they show the same
elements of the same memory with the same dtype, and nothing was written there in between.
"""

import weakref
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef


class Geometry(NamedTuple):
    """Which elements of a storage a tensor shows, and how."""

    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    conjugate: bool

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "Geometry":
        """The geometry of a strided tensor."""
        return cls(
            int(tensor.storage_offset()),
            tuple(tensor.shape),
            tuple(tensor.stride()),
            tensor.dtype,
            tensor.is_conj() or tensor.is_neg(),
        )

    def covers(self, other: "Geometry") -> bool:
        """Both show the same run of memory without gaps, if in another shape or order."""
        return (
            self.offset == other.offset
            and self.dtype == other.dtype
            and self._is_dense()
            and other._is_dense()
            and torch.Size(self.shape).numel() == torch.Size(other.shape).numel()
        )

    def misses(self, other: "Geometry") -> bool:
        """Certainly no element in common: the pieces of a split, rows of one matrix."""
        first, second = sorted((self, other), key=lambda geometry: geometry.offset)
        if self.dtype != other.dtype:
            return False
        if second.offset > first._last_element():
            return True
        axes = [(s, n) for s, n in zip(first.stride, first.shape, strict=True) if n > 1]
        if axes != [(s, n) for s, n in zip(second.stride, second.shape, strict=True) if n > 1]:
            same_stride = first.stride == second.stride
            if not same_stride:
                return False
            axes = list(zip(first.stride, first.shape, strict=True))
        # Both are boxes in one lattice: apart when they are apart along one axis.
        distance = second.offset - first.offset
        for stride, size in sorted(axes, reverse=True):
            if stride == 0:
                continue
            if distance // stride >= size:
                return True
            distance %= stride
        return False

    def _last_element(self) -> int:
        pairs = zip(self.stride, self.shape, strict=True)
        return self.offset + sum(stride * (size - 1) for stride, size in pairs)

    def _is_dense(self) -> bool:
        expected = 1
        for stride, size in sorted(zip(self.stride, self.shape, strict=True)):
            if size == 1:
                continue
            if stride != expected:
                return False
            expected *= size
        return True


@dataclass
class Held:
    """A value as it stood when ``writes`` writes had been made to its memory."""

    value: int
    writes: int


@dataclass
class Memory:
    """One storage: the values that live in it, and the writes made to it."""

    # Keeps the storage's address from being given to another one, but not its bytes alive.
    reference: StorageWeakRef
    values: dict[Geometry, Held] = field(default_factory=dict)
    written: list[tuple[int, Geometry]] = field(default_factory=list)


@dataclass
class Found:
    """What is known about a tensor: its value, and what was written to its memory since."""

    value: int
    writes_since: list[tuple[int, Geometry]]
    exact: bool = True  # False: another view of the same memory, of a shape not seen before
    detached: bool = False


def _weak(storage: torch.UntypedStorage) -> StorageWeakRef:
    return StorageWeakRef(storage)  # type: ignore[no-untyped-call]


class Identity:
    """Tensor -> id of the value that it holds."""

    def __init__(self) -> None:
        self._memories: dict[int, Memory] = {}
        self._objects: dict[int, tuple[weakref.ref[torch.Tensor], Held, bool]] = {}

    def hold(self, tensor: torch.Tensor, value: int, *, detached: bool = False) -> None:
        """From now on ``tensor`` holds ``value``.

        ``detached``: the tensor is a detached alias of a value, of which nobody may ever ask.
        """
        memory = self._memory(tensor)
        held = Held(value, len(memory.written) if memory else 0)
        self._objects[id(tensor)] = (weakref.ref(tensor), held, detached)
        if memory is not None and not detached:
            geometry = Geometry.of(tensor)
            known = memory.values.get(geometry)
            # A view of unchanged geometry is another name of the same value; the first stands.
            if known is None or known.writes != held.writes:
                memory.values[geometry] = held

    def write(self, tensor: torch.Tensor, value: int) -> None:
        """``tensor`` was overwritten in place and now holds ``value``."""
        memory = self._memory(tensor)
        if memory is not None:
            memory.written.append((value, Geometry.of(tensor)))
        self.hold(tensor, value)

    def knows(self, tensor: torch.Tensor) -> bool:
        """Whether this very object holds a value."""
        entry = self._objects.get(id(tensor))
        return entry is not None and entry[0]() is tensor

    def find(self, tensor: torch.Tensor) -> Found | None:
        """The value that ``tensor`` holds; None for a tensor never seen."""
        memory = self._memory(tensor)
        written = memory.written if memory is not None else []
        geometry = Geometry.of(tensor) if memory is not None else None

        def since(held: Held) -> list[tuple[int, Geometry]]:
            later = written[held.writes :]
            return [(v, g) for v, g in later if geometry is None or not g.misses(geometry)]

        entry = self._objects.get(id(tensor))
        if entry is not None and entry[0]() is tensor:
            return Found(entry[1].value, since(entry[1]), detached=entry[2])
        if memory is None or geometry is None:
            return None
        held = memory.values.get(geometry)
        if held is not None:
            return Found(held.value, since(held))
        if memory.values:
            largest = max(memory.values, key=lambda g: (torch.Size(g.shape).numel(), -len(g.shape)))
            held = memory.values[largest]
            return Found(held.value, since(held), exact=False)
        return None

    def _memory(self, tensor: torch.Tensor) -> Memory | None:
        if tensor.is_nested:
            return None
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):
            return None  # sparse and opaque tensors have no storage: the object must do
        memory = self._memories.get(storage._cdata)
        if memory is None:
            memory = self._memories[storage._cdata] = Memory(_weak(storage))
        return memory
