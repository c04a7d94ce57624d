"""Which units of a weight are exactly equal, and whether their gradients are too."""

import torch

from fanin.axes import Axes
from fanin.checking.case import Case
from fanin.checking.reading import WeightMatrix, weight_matrices

# Equal units get equal gradients up to the rounding of a matrix product in another order.
_ROUNDING = 1e-3
# Gradients that small beside the model's largest are rounding errors of an exact zero.
_NOISE = 1e-6
_CHUNK = 1 << 22  # elements that are widened to float64 at a time
# What may stand between a layer's units and the layer that weighs them.
_PASSES = frozenset(
    {"view", "_unsafe_view", "native_dropout", "alias", "clone", "_to_copy", "mean"}
    | {"max_pool2d_with_indices", "max_pool1d", "avg_pool2d", "_adaptive_avg_pool2d"}
)


def unit_rows(tensor: torch.Tensor, axes: Axes) -> torch.Tensor:
    """(units, incoming weights): output axes first and merged, independent blocks apart.

    Weights along batch axes (stacked experts) belong to different units, so that these axes are
    counted with the outputs.
    """
    units = [*axes.batch, *axes.outputs]
    rest = [axis for axis in range(tensor.dim()) if axis not in units]
    count = 1
    for axis in units:
        count *= tensor.shape[axis]
    return tensor.permute(*units, *rest).reshape(count, -1)


def equal_groups(rows: torch.Tensor) -> list[list[int]]:
    """Indices of rows that are exactly equal to another, grouped.

    Examples:
        >>> equal_groups(torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]))
        [[0, 2]]
    """
    # Candidates by a random projection, so that rows are compared only with their like.
    keys, order = torch.sort(_projected(rows))
    near = (keys[1:] - keys[:-1]).abs() <= 1e-9 * keys[1:].abs()
    if not bool(near.any()):
        return []
    groups: list[list[int]] = []
    run: list[int] = []
    indices, follows = order.tolist(), [False, *near.tolist()]
    for index, same in zip(indices, follows, strict=True):
        if not same:
            groups += _exactly_equal(rows, run)
            run = []
        run.append(index)
    return sorted(groups + _exactly_equal(rows, run))


def _projected(rows: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(rows.shape[1], generator=generator, dtype=torch.float64)
    direction = direction.to(rows.device)
    step = max(1, _CHUNK // max(1, rows.shape[1]))
    starts = range(0, rows.shape[0], step)
    return torch.cat([rows[i : i + step].double() @ direction for i in starts])


def _exactly_equal(rows: torch.Tensor, members: list[int]) -> list[list[int]]:
    """The members, apart where they differ; groups of one are left out."""
    groups = []
    left = sorted(members)
    while len(left) > 1:
        same = (rows[left] == rows[left[0]]).all(dim=1).tolist()
        group = [i for i, equal in zip(left, same, strict=True) if equal]
        if len(group) > 1:
            groups.append(group)
        left = [i for i, equal in zip(left, same, strict=True) if not equal]
    return groups


def stays_equal(case: Case, matrix: WeightMatrix, group: list[int]) -> bool:
    """Whether units with equal weights also have equal gradients, or none at all.

    The gradient is that of the step at which the weight first has one: zero gradients at the
    start say nothing, those behind a zero head differ one step later.
    """
    if matrix.name not in case.simulation.woke:
        return False
    gradient = case.simulation.gradients.get(matrix.name)
    if gradient is None or case.simulation.relative[matrix.name] < _NOISE:
        return True
    rows = unit_rows(gradient, matrix.axes)
    largest = float(rows.abs().max())
    members = rows[group]
    return bool((members - members[0]).abs().max() <= _ROUNDING * largest)


def equal_outgoing(case: Case, matrix: WeightMatrix, group: list[int]) -> bool:
    """Whether the layer that reads these units, and it alone, weighs them all alike."""
    graph = case.graph
    layer = next((row for row in case.signals.layers if row.weight == matrix.name), None)
    if graph is None or layer is None:
        return False
    value = layer.activated
    while True:
        readers = graph.consumers.get(value, ())
        if len(readers) != 1 or not readers[0].outputs:
            return False
        if readers[0].name not in _PASSES:
            break
        value = readers[0].outputs[0]
    names = [n for v in readers[0].inputs for n in graph.tensors[v].of_parameters]
    following = {m.name: m for m in weight_matrices(case)}
    for name in names:
        after = following.get(name)
        if after is None or len(after.axes.inputs) != 1:
            continue
        columns = after.tensor.movedim(after.axes.inputs[0], 0).flatten(1)
        units = unit_rows(matrix.tensor, matrix.axes).shape[0]
        if columns.shape[0] == units:
            return bool((columns[group] == columns[group[0]]).all())
    return False
