"""Follow the axes of one tensor through views, transposes, splits and reshapes, symbolically.

A labelled tensor knows for each of its dimensions which axes of the original it runs along, as
a product of *atoms*, outermost first.  Reshapes split and join atoms as they split and join
dimensions; nothing is computed and no element is touched, so size costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

ANONYMOUS = -1
"""Axis of an atom that belongs to something else: a batch dimension, an expanded one."""


@dataclass(frozen=True)
class Atom:
    """``size`` steps of length ``step`` along one axis of the original tensor."""

    axis: int
    size: int
    step: int = 1


Dims = tuple[tuple[Atom, ...], ...]


@dataclass(frozen=True)
class Labels:
    """What each dimension of a tensor is of the original.

    Args:
        dims: atoms of every dimension, outermost first; None once an operation has mixed them.
        starts: index along each original axis at which the tensor begins.
        summed: original axes that were summed over on the way, by a product with another weight.
        arithmetic: names of the operations, views aside, that were applied on the way; the last
            six.
    """

    dims: Dims | None
    starts: tuple[int, ...]
    summed: frozenset[int] = field(default=frozenset())
    arithmetic: tuple[str, ...] = ()

    @classmethod
    def whole(cls, shape: Sequence[int]) -> "Labels":
        """Labels of the original itself."""
        dims = tuple((Atom(axis, size),) for axis, size in enumerate(shape))
        return cls(dims, (0,) * len(shape))

    @classmethod
    def along(cls, shape: Sequence[int], *dimensions: int) -> "Labels":
        """Follow some dimensions only, as axes 0, 1, …; the others are anonymous."""
        axes = {d % len(shape): axis for axis, d in enumerate(dimensions)}
        dims = tuple((Atom(axes.get(d, ANONYMOUS), size),) for d, size in enumerate(shape))
        return cls(dims, (0,) * len(dimensions))

    def after(self, name: str) -> "Labels":
        """The same labels behind one more piece of arithmetic."""
        return replace(self, arithmetic=(*self.arithmetic, name)[-6:])

    def opaque(self) -> "Labels":
        """The axes are no longer known."""
        return replace(self, dims=None)

    def permuted(self, order: Sequence[int]) -> "Labels":
        """Dimensions in a new order."""
        if self.dims is None:
            return self
        return replace(self, dims=tuple(self.dims[d] for d in order))

    def reshaped(self, shape: Sequence[int]) -> "Labels":
        """Another shape, the same elements in row-major order."""
        if self.dims is None:
            return self
        if 0 in shape:
            return self.opaque()  # nothing was moved anywhere
        rest = [atom for atoms in self.dims for atom in atoms]
        dims: list[tuple[Atom, ...]] = []
        for size in shape:
            taken: list[Atom] = []
            needed = size
            if size == 1 and rest and rest[0].size == 1:
                taken.append(rest.pop(0))
            while needed > 1:
                if not rest:
                    return self.opaque()
                atom = rest.pop(0)
                if needed % atom.size == 0:
                    taken.append(atom)
                    needed //= atom.size
                elif atom.size % needed == 0:
                    inner = atom.size // needed
                    taken.append(Atom(atom.axis, needed, atom.step * inner))
                    rest.insert(0, Atom(atom.axis, inner, atom.step))
                    needed = 1
                else:
                    return self.opaque()
            dims.append(_joined(taken))
        if any(atom.size != 1 for atom in rest):
            return self.opaque()
        if rest and dims:
            dims[-1] = (*dims[-1], *rest)
        return replace(self, dims=tuple(dims))

    def expanded(self, shape: Sequence[int]) -> "Labels":
        """Broadcast to a shape of at least as many dimensions."""
        if self.dims is None:
            return self
        new = len(shape) - len(self.dims)
        if new < 0:
            return self.opaque()
        dims: list[tuple[Atom, ...]] = [
            (Atom(ANONYMOUS, n),) if n != 1 else () for n in shape[:new]
        ]
        for atoms, size in zip(self.dims, shape[new:], strict=True):
            wide = size != prod(atom.size for atom in atoms)
            dims.append((*atoms, Atom(ANONYMOUS, size)) if wide else atoms)
        return replace(self, dims=tuple(dims))

    def sliced(self, dimension: int, start: int, length: int, step: int = 1) -> "Labels":
        """``length`` elements of one dimension from ``start`` on."""
        if self.dims is None:
            return self
        cut = _sliced(self.dims[dimension], start, length, step)
        if cut is None:
            return self.opaque()
        atoms, moves = cut
        starts = list(self.starts)
        for axis, distance in moves:
            if axis != ANONYMOUS:
                starts[axis] += distance
        dims = (*self.dims[:dimension], atoms, *self.dims[dimension + 1 :])
        return replace(self, dims=dims, starts=tuple(starts))

    def resampled(self, shape: Sequence[int]) -> "Labels":
        """Interpolated to another number of steps along some dimensions."""
        if self.dims is None:
            return self
        dims: list[tuple[Atom, ...]] = []
        for atoms, size in zip(self.dims, shape, strict=True):
            if size == prod(atom.size for atom in atoms):
                dims.append(atoms)
            elif len(atoms) == 1:
                dims.append((Atom(atoms[0].axis, size),))
            else:
                return self.opaque()
        return replace(self, dims=tuple(dims))

    def widened(self, size: int) -> "Labels":
        """One more dimension at the end that belongs to nothing."""
        if self.dims is None:
            return self
        return replace(self, dims=(*self.dims, (Atom(ANONYMOUS, size),)))

    def without(self, dimensions: Sequence[int]) -> "Labels":
        """Dimensions removed: selected at one index, or reduced."""
        if self.dims is None:
            return self
        gone = set(dimensions)
        return replace(self, dims=tuple(a for d, a in enumerate(self.dims) if d not in gone))

    def dimensions_of(self, axis: int) -> list[tuple[int, Atom]]:
        """Where an original axis runs: (dimension, atom), outermost dimension first."""
        if self.dims is None:
            return []
        return [(d, a) for d, atoms in enumerate(self.dims) for a in atoms if a.axis == axis]

    def indices(self, axis: int) -> list[tuple[int, int]]:
        """Indices along an original axis that the tensor holds: sorted runs (start, size)."""
        atoms = sorted((atom for _, atom in self.dimensions_of(axis)), key=lambda a: a.step)
        run = 1
        for atom in atoms:
            if atom.step == run:
                run *= atom.size
        start = self.starts[axis]
        if run == prod(atom.size for atom in atoms):
            return [(start, run)]
        found = [start]
        for atom in atoms:
            found = [base + atom.step * i for base in found for i in range(atom.size)]
        runs: list[tuple[int, int]] = []
        for index in sorted(found):
            if runs and runs[-1][0] + runs[-1][1] == index:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((index, 1))
        return runs


def _joined(atoms: Sequence[Atom]) -> tuple[Atom, ...]:
    """Neighbours that run along one axis without a gap become one atom again."""
    joined: list[Atom] = []
    for atom in atoms:
        last = joined[-1] if joined else None
        if last is not None and last.axis == atom.axis and last.step == atom.step * atom.size:
            joined[-1] = Atom(atom.axis, last.size * atom.size, atom.step)
        else:
            joined.append(atom)
    return tuple(joined)


def _sliced(
    atoms: tuple[Atom, ...], start: int, length: int, step: int
) -> tuple[tuple[Atom, ...], list[tuple[int, int]]] | None:
    """Atoms of a slice of a dimension and how far it moves along each axis; None if mixed."""
    if start == 0 and step == 1 and length == prod(atom.size for atom in atoms):
        return atoms, []
    if not atoms:
        return None
    first, *inner = atoms
    within = prod(atom.size for atom in inner)
    if within == 1:
        cut = Atom(first.axis, length, first.step * step)
        return (cut, *inner), [(first.axis, start * first.step)]
    if step == 1 and start % within == 0 and length % within == 0:
        cut = Atom(first.axis, length // within, first.step)
        return (cut, *inner), [(first.axis, start // within * first.step)]
    if start // within == (start + (length - 1) * step) // within:
        deeper = _sliced(tuple(inner), start % within, length, step)
        if deeper is not None:
            move = (first.axis, start // within * first.step)
            return deeper[0], [move, *deeper[1]]
    return None
