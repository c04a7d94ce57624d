"""Labels against the numbers: index tensors put through the same operations."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fanin.graph import record
from fanin.graph.labels import Labels
from fanin.graph.structure import moved_labels


def indices_along(labels: Labels, axis: int, shape: tuple[int, ...]) -> torch.Tensor:
    """The index along one original axis at every place, as the labels have it."""
    found = torch.full(shape, labels.starts[axis])
    for dimension, atoms in enumerate(labels.dims):
        position = torch.arange(shape[dimension])
        for atom in reversed(atoms):
            place, position = position % atom.size, position // atom.size
            if atom.axis == axis:
                view = [1] * len(shape)
                view[dimension] = -1
                found = found + (place * atom.step).reshape(view)
    return found


def factorings(size: int) -> list[tuple[int, ...]]:
    return [(size,), *[(d, size // d) for d in range(1, size + 1) if size % d == 0]]


@st.composite
def moves(draw, shape):
    """One structural operation that fits a shape, as a function."""
    rank = len(shape)
    kind = draw(
        st.sampled_from(["permute", "split", "merge", "slice", "select", "chunk", "expand"])
    )
    axis = draw(st.integers(0, rank - 1)) if rank else 0
    if kind == "permute" and rank:
        order = draw(st.permutations(range(rank)))
        return lambda t: t.permute(order)
    if kind == "split" and rank:
        parts = draw(st.sampled_from(factorings(shape[axis])))
        return lambda t: t.unflatten(axis, parts)
    if kind == "merge" and rank > 1 and axis < rank - 1:
        return lambda t: t.contiguous().flatten(axis, axis + 1)
    if kind == "slice" and rank:
        start = draw(st.integers(0, shape[axis] - 1))
        length = draw(st.integers(1, shape[axis] - start))
        return lambda t: t.narrow(axis, start, length)
    if kind == "select" and rank > 1:
        index = draw(st.integers(0, shape[axis] - 1))
        return lambda t: t.select(axis, index)
    if kind == "chunk" and rank:
        return lambda t: t.chunk(2, axis)[-1]
    return lambda t: t.unsqueeze(0).expand(2, *t.shape)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_labels_agree_with_index_tensors(data):
    shape = tuple(data.draw(st.lists(st.sampled_from([2, 3, 4, 6]), min_size=1, max_size=3)))
    steps, probe = [], torch.empty(shape)
    for _ in range(data.draw(st.integers(1, 5))):
        step = data.draw(moves(tuple(probe.shape)))
        steps.append(step)
        probe = step(probe)

    class Walk(nn.Module):
        def forward(self, x):
            for step in steps:
                x = step(x)
            return x

    graph = record(Walk(), torch.zeros(shape))
    known = {graph.inputs[0]: Labels.whole(shape)}
    for operation in graph.operations:
        source = operation.inputs[0]
        after = moved_labels(graph, operation, known[source], source)
        known.update(zip(operation.outputs, after, strict=False))
    labels = known[graph.outputs[0]]
    if labels.dims is None:
        return  # a slice across atoms: honest ignorance is allowed, a wrong answer is not
    for axis, size in enumerate(shape):
        view = [1] * len(shape)
        view[axis] = -1
        expected = torch.arange(size).reshape(view).expand(shape)
        for step in steps:
            expected = step(expected)
        assert torch.equal(indices_along(labels, axis, tuple(probe.shape)), expected)
        runs = labels.indices(axis)
        flat = sorted({i for start, length in runs for i in range(start, start + length)})
        assert flat == sorted(set(expected.flatten().tolist()))


def test_most_walks_stay_known():
    """The escape above is rare where it matters: a packed projection taken apart head by head."""
    labels = Labels.along((2, 5, 24), 2).reshaped((2, 5, 4, 3, 2)).sliced(3, 1, 1).without([3])
    assert labels.indices(0) == [(2, 2), (8, 2), (14, 2), (20, 2)]
    assert labels.reshaped((2, 5, 8)).indices(0) == labels.indices(0)


def test_without_elements_nothing_is_said():
    assert Labels.whole((0, 5, 8)).reshaped((0, 8)).dims is None
