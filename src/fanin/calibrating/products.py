"""Where weights multiply data in a recorded call, and where their output units come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from fanin.graph.graph import Graph, Operation, Ref, TensorKind
from fanin.graph.use import Part, Use
from fanin.graph.uses import read_uses
from fanin.graph.uses.contraction import factors
from fanin.planning.assignment import Assignment

_ADDEND = {"addmm": 0, "addmv": 0, "baddbmm": 0, "linear": 2, "convolution": 2}
_VIEWS = ("view", "_unsafe_view", "alias")


@dataclass(frozen=True)
class Product:
    """One product of a weight with data.

    Args:
        weight: its (first) name.
        operation: name of the operation.
        axis: axis of the result that counts output units; None where they cannot be told apart.
        first: which unit of the weight is the first along that axis.
        units: how many there are.
        bias: the parameter that the same operation adds; None for none.
        added: index of a later operation that adds a bias to the result, and that bias.
        computed: the operand is computed from the weight, which may divide its scale out.
    """

    weight: str
    operation: str
    axis: int | None = None
    first: int = 0
    units: int = 0
    bias: str | None = None
    added: tuple[int, str] | None = None
    computed: bool = False


@dataclass(frozen=True)
class Products:
    """All products of one recorded call.

    Args:
        at: operation index -> product.
        names: name of every operation that ran, by index: another run is followed by them.
        coupled: weights of which some unit is used more than once, so that scaling them moves
            what they are measured on.
    """

    at: Mapping[int, Product]
    names: Sequence[str]
    coupled: frozenset[str]

    def of(self, weight: str) -> list[Product]:
        """The products of one weight, in order of running."""
        return [p for p in self.at.values() if p.weight == weight]


def read_products(graph: Graph, weights: Mapping[str, Assignment]) -> Products:
    """The products of some weights in a graph.

    Args:
        graph: from the recorder.
        weights: name -> assignment; other weights are left out.
    """
    found: dict[int, Product] = {}
    other: set[str] = set()
    for use in read_uses(graph).uses:
        if use.parameter not in weights:
            continue
        if use.part is Part.WEIGHT and use.operation.index not in found:
            found[use.operation.index] = _product(graph, use, weights[use.parameter])
        elif use.part is not Part.MAGNITUDE:
            other.add(use.parameter)
    counts: dict[tuple[str, int], int] = {}
    for product in found.values():
        pieces = range(product.first, product.first + product.units) if product.units else [-1]
        for unit in pieces:
            counts[product.weight, unit] = counts.get((product.weight, unit), 0) + 1
    coupled = {weight for (weight, _), count in counts.items() if count > 1}
    names = [operation.name for operation in graph.operations]
    return Products(found, names, frozenset(coupled | other))


def _product(graph: Graph, use: Use, a: Assignment) -> Product:
    operation = use.operation
    bias = _parameter(graph, operation, _ADDEND.get(operation.name))
    added = None if bias else _added_later(graph, operation.outputs[0])
    computed = bool(use.arithmetic)
    plain = Product(use.parameter, operation.name, bias=bias, added=added, computed=computed)
    if len(a.axes.outputs) != 1 or use.labels.dims is None:
        return plain
    shape = graph.tensors[operation.outputs[0]].shape
    operand = graph.tensors[use.operand].shape
    if "conv" in operation.name:
        if a.axes.transposed and a.axes.groups > 1:
            return plain
        dimension, axis = (1 if a.axes.transposed else 0), 1
    else:
        both = factors(operation)
        if both is None or use.operand not in both or len(operand) < 2:
            return plain
        on_right = use.operand == both[1] and operation.name != "linear"
        dimension = len(operand) - (1 if on_right else 2)
        axis = len(shape) - (1 if use.operand == both[1] else 2)
    atoms = use.labels.dims[dimension] if dimension < len(use.labels.dims) else ()
    output = a.axes.outputs[0]
    fits = len(atoms) == 1 and atoms[0].axis == output and atoms[0].step == 1
    if not fits or not 0 <= axis < len(shape) or shape[axis] != operand[dimension]:
        return plain
    starts = use.labels.starts
    first = starts[output] if output < len(starts) else 0
    return replace(plain, axis=axis, first=first, units=shape[axis])


def _parameter(graph: Graph, operation: Operation, place: int | None) -> str | None:
    """The parameter that stands, whole, in one argument."""
    if place is None or place >= len(operation.args):
        return None
    return _whole(graph, operation.args[place])


def _whole(graph: Graph, argument: object) -> str | None:
    if not isinstance(argument, Ref):
        return None
    info = graph.tensors[argument.tensor]
    return info.name if info.kind is TensorKind.PARAMETER else None


def _added_later(graph: Graph, value: int) -> tuple[int, str] | None:
    """The operation that adds a bias to a result, through views that keep its last axis."""
    while True:
        readers = graph.consumers.get(value, ())
        if len(readers) != 1 or not readers[0].outputs:
            return None
        reader = readers[0]
        if reader.name in ("add", "add_"):
            names = [_whole(graph, arg) for arg in reader.args[:2]]
            bias = next((name for name in names if name is not None), None)
            size = graph.tensors[value].shape[-1:]
            if bias is None or graph.parameters[bias].shape != size:
                return None
            return reader.index, bias
        same = graph.tensors[reader.outputs[0]].shape[-1:] == graph.tensors[value].shape[-1:]
        if reader.name not in _VIEWS or not same:
            return None
        value = reader.outputs[0]


def blocks_of(a: Assignment, per_unit: int) -> list[tuple[int, int]]:
    """First unit and size of every piece of a weight that is measured on its own."""
    if not a.axes.block_sizes or not per_unit:
        return [(0, per_unit)]
    starts, start = [], 0
    for size in a.axes.block_sizes:
        starts.append((start, size))
        start += size
    return starts


def holds(product: Product, first: int, size: int) -> bool:
    """Whether a product's result shows all units of a piece; of size 0, which is the whole."""
    if not size or product.axis is None:
        return True
    return product.first <= first and first + size <= product.first + product.units


def part_of(
    product: Product, first: int, size: int, result: torch.Tensor, bias: torch.Tensor | None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The part of a product's result that belongs to one piece, and the bias that is in it.

    Args:
        product: where the result comes from.
        first: first unit of the piece.
        size: how many units it has; 0 for all of the weight.
        result: of the operation.
        bias: a vector that the operation added; None for none.
    """
    if product.axis is None:
        return result, bias
    if not size:
        return result, None if bias is None else along(product.axis, bias, result)
    start = max(first, product.first)
    end = min(first + size, product.first + product.units)
    if end <= start:
        return None, None
    here, count = start - product.first, end - start
    part = result.narrow(product.axis, here, count)
    if bias is None or bias.shape != (product.units,):
        return part, None
    return part, along(product.axis, bias.narrow(0, here, count), part)


def along(axis: int, values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A vector as it broadcasts along one axis of a tensor; what is no vector as it is."""
    if values.dim() != 1:
        return values.to(like)
    return values.to(like).view([-1 if a == axis else 1 for a in range(like.dim())])
