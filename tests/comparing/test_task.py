"""Losses and accuracies against PyTorch and counting by hand."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from fanin.comparing.task import prediction, task_for
from fanin.errors import DataError, UnknownNameError


def test_cross_entropy_is_chosen_for_labels_and_mse_for_numbers():
    assert task_for(None, torch.tensor([1, 2])).name == "cross_entropy"
    assert task_for(None, torch.tensor([1.0, 2.0])).name == "mse"


@pytest.mark.parametrize(
    ("shape", "labels", "second"),
    [((6, 4), (6,), None), ((6, 5, 4), (6, 5), 1), ((6, 4, 3, 3), (6, 3, 3), None)],
    ids=["plain", "tokens: classes last", "pixels: classes second"],
)
def test_loss_and_accuracy_of_every_layout(shape, labels, second):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(shape, generator=generator)
    y = torch.randint(0, 4, labels, generator=generator)
    task = task_for(None, y)
    classes_second = values.movedim(-1, 1) if second else values
    torch.testing.assert_close(task.loss(values, y), F.cross_entropy(classes_second, y))
    right = (classes_second.argmax(1) == y).float().mean()
    torch.testing.assert_close(task.correct(values, y), right)
    # Networks stacked in front: one accuracy each.
    stacked = torch.stack([values, -values])
    shares = task.correct(stacked, y)
    torch.testing.assert_close(shares[0], right)
    torch.testing.assert_close(shares[1], ((-classes_second).argmax(1) == y).float().mean())


def test_ignored_labels_and_nan_predictions_count_as_documented():
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0], [float("nan"), 0.0], [1.0, 0.0]])
    y = torch.tensor([0, 0, 0, -100])
    assert float(task_for(None, y).correct(values, y)) == pytest.approx(1 / 3)


def test_the_target_is_half_of_what_knowing_nothing_costs():
    y = torch.randint(0, 10, (50,))
    assert task_for(None, y).target_loss(10, y) == pytest.approx(0.5 * math.log(10))
    numbers = torch.randn(200, 3) * 2 + 5
    best_constant = F.mse_loss(numbers.mean(0).expand_as(numbers), numbers)
    assert task_for(None, numbers).target_loss(None, numbers) == pytest.approx(
        0.5 * float(best_constant), rel=1e-5
    )
    assert task_for(lambda o, t: o.sum(), y).target_loss(10, y) is None
    assert task_for(None, torch.ones(4)).target_loss(None, torch.ones(4)) is None


def test_predictions_are_found_in_what_models_return():
    from types import SimpleNamespace

    value = torch.ones(2, 3)
    for output in (value, (value, None), {"logits": value}, SimpleNamespace(logits=value)):
        assert prediction(output) is value


def test_bad_losses():
    labels, numbers = torch.tensor([1, 2]), torch.tensor([1.0, 2.0])
    with pytest.raises(UnknownNameError, match="cross_entropy"):
        task_for("crossentropy", labels)
    with pytest.raises(DataError, match="integer labels"):
        task_for("cross_entropy", numbers)
    with pytest.raises(DataError, match="floating-point"):
        task_for("mse", labels)
    with pytest.raises(DataError, match="neither"):
        task_for(3, labels)
    with pytest.raises(DataError, match="do not fit"):
        task_for(None, labels).loss(torch.zeros(2), labels)


def test_a_loss_module_is_a_loss():
    task = task_for(nn.CrossEntropyLoss(label_smoothing=0.1), torch.tensor([0, 1]))
    assert task.name == "CrossEntropyLoss"
    assert float(task.loss(torch.zeros(2, 2), torch.tensor([0, 1]))) == pytest.approx(math.log(2))
