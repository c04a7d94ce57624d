"""Every form of data is read to the same samples; what cannot be trained on is refused."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from fanin.comparing.dataset import MOST_HELD_OUT, batch_rows, read_data
from fanin.errors import DataError

X = torch.arange(40.0).view(20, 2)
Y = torch.arange(20) % 3


def rows_of(samples):
    return sorted(samples.x[:, 0].tolist())


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        [X, Y],
        (X.double().numpy(), Y.numpy()),
        TensorDataset(X, Y),
        DataLoader(TensorDataset(X, Y), batch_size=3),
        lambda: (X, Y),
    ],
    ids=["tensors", "list", "arrays", "dataset", "loader", "function"],
)
def test_one_set_is_split_and_nothing_is_in_both_parts(data):
    split = read_data(data, rows_needed=100)
    assert len(split.train) == 16
    assert len(split.held_out) == 4
    assert rows_of(split.train) + rows_of(split.held_out) != []
    assert sorted(rows_of(split.train) + rows_of(split.held_out)) == X[:, 0].tolist()
    assert split.train.x.dtype == torch.float32
    # Targets stay with their inputs.
    assert torch.equal((split.train.x[:, 0] / 2).long() % 3, split.train.y)


@pytest.mark.parametrize(
    "data",
    [
        ((X[:15], Y[:15]), (X[15:], Y[15:])),
        (TensorDataset(X[:15], Y[:15]), TensorDataset(X[15:], Y[15:])),
        lambda: (TensorDataset(X[:15], Y[:15]), (X[15:].numpy(), Y[15:].numpy())),
    ],
    ids=["pairs", "datasets", "mixed"],
)
def test_a_pair_of_sets_is_kept_apart(data):
    split = read_data(data, rows_needed=100)
    assert rows_of(split.train) == X[:15, 0].tolist()
    assert rows_of(split.held_out) == X[15:, 0].tolist()


def test_inputs_may_be_a_dict_or_a_tuple():
    for x in ({"ids": X, "mask": X > 3}, (X, X + 1)):
        split = read_data((x, Y), rows_needed=100)
        part = split.train.x["ids"] if isinstance(x, dict) else split.train.x[0]
        assert part.shape == (16, 2)


class Counted(Dataset):
    def __init__(self, count):
        self.count, self.read = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.read += 1
        return torch.tensor([float(index)]), index % 2


def test_no_more_of_a_dataset_is_read_than_can_be_used():
    data = Counted(100_000)
    split = read_data(data, rows_needed=50)
    assert data.read == 50 + MOST_HELD_OUT
    assert len(split.train) + len(split.held_out) == data.read


def test_batches_are_whole_passes_in_an_order_that_never_changes():
    rows = batch_rows(10, 4, 5)
    assert rows.shape == (5, 4)
    flat = rows.flatten().tolist()
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]
    assert torch.equal(rows, batch_rows(10, 4, 5))
    # A longer study sees the same batches first.
    assert torch.equal(batch_rows(10, 4, 9)[:5], rows)


def with_nan():
    x = X.clone()
    x[7, 1] = float("nan")
    return x


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((with_nan(), Y), "NaN or infinity in 1 of 20 samples"),
        ((X, torch.full((20,), float("inf"))), "y holds NaN or infinity"),
        ((X[:0], Y[:0]), "empty"),
        (TensorDataset(X[:0], Y[:0]), "empty"),
        ((X, Y[:7]), "20 samples and y has 7"),
        ((X[:1], Y[:1]), "too few"),
        ((X, torch.tensor(3)), "no samples"),
        (X, "cannot be read"),
        ("digits", "cannot be read"),
        (None, "cannot be read"),
        (7, "cannot be read"),
        (iter([1, 2]), "cannot be read"),
        ([1, 2, 3], "not a pair"),
        ((np.array([["a"], ["b"]]), np.array([0, 1])), "numbers"),
        (lambda: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_line(data, words):
    with pytest.raises(DataError, match=words) as error:
        read_data(data, rows_needed=100)
    assert "\n" not in str(error.value)


class Ragged(Counted):
    def __getitem__(self, index):
        return torch.zeros(index + 1), 0


class Failing(Counted):
    def __getitem__(self, index):
        if index == 3:
            raise OSError("no such image")
        return torch.zeros(1), 0


@pytest.mark.parametrize(
    ("data", "words"), [(Ragged(5), "one shape"), (Failing(5), "sample 3 .*no such image")]
)
def test_a_broken_dataset_says_where(data, words):
    with pytest.raises(DataError, match=words):
        read_data(data, rows_needed=100)
