"""Which loss follows from which target, and what is refused."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from fanin.errors import DataError, UnknownNameError
from fanin.measuring.losses import IGNORED_CLASS, entropy_of, evaluate


def test_integer_classes_give_cross_entropy():
    output, target = torch.randn(8, 5), torch.arange(8) % 5
    found = evaluate(output, target, None, None)
    assert found.name == "cross_entropy"
    assert found.value.item() == pytest.approx(F.cross_entropy(output, target).item())
    assert found.classes == 5
    each = F.cross_entropy(output, target, reduction="none")
    assert found.error == pytest.approx(each.std().item() / math.sqrt(8))


def test_classes_may_stand_beside_the_batch_or_last():
    beside, last = torch.randn(2, 5, 3, 4), torch.randn(2, 7, 11)
    target = torch.randint(0, 5, (2, 3, 4))
    assert evaluate(beside, target, None, None).value.item() == pytest.approx(
        F.cross_entropy(beside, target).item()
    )
    ids = torch.randint(0, 11, (2, 7))
    assert evaluate(SimpleNamespace(logits=last, loss=None), ids, None, None).value.item() == (
        pytest.approx(F.cross_entropy(last.flatten(0, 1), ids.flatten()).item())
    )


def test_ignored_labels_count_nowhere():
    output, target = torch.randn(4, 3), torch.tensor([0, IGNORED_CLASS, 1, 1])
    found = evaluate(output, target, None, None)
    assert found.value.item() == pytest.approx(F.cross_entropy(output, target).item())
    assert found.label_entropy == pytest.approx(
        -(1 / 3) * math.log(1 / 3) - 2 / 3 * math.log(2 / 3)
    )


def test_floats_are_regressed_and_booleans_classified():
    output = torch.randn(6, 2)
    assert evaluate(output, torch.randn(6, 2), None, None).name == "mse"
    assert evaluate(output, torch.randn(6, 2) > 0, None, None).name == "bce"
    assert evaluate(torch.randn(6, 1), torch.tensor([0, 1, 1, 0, 1, 0]), None, None).name == "bce"


def test_a_sigmoid_output_is_taken_as_a_probability():
    raw, target = torch.randn(6, 1, requires_grad=True), torch.rand(6, 1) > 0.5
    direct = evaluate(raw, target, None, None).value
    assert evaluate(torch.sigmoid(raw), target, None, None).value.item() == pytest.approx(
        direct.item(), rel=1e-5
    )


def test_the_models_own_loss_comes_with_what_its_labels_say():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    output = SimpleNamespace(loss=torch.tensor(1.5, requires_grad=True), logits=logits)
    found = evaluate(output, None, None, {"labels": labels})
    assert (found.name, found.value.item(), found.classes) == ("model", 1.5, 3)


def test_without_a_target_the_cotangent_is_fixed_and_of_unit_rms():
    output = torch.randn(7, 9, requires_grad=True)
    gradients = []
    for _ in range(2):
        found = evaluate(output, None, None, None)
        assert found.name == "cotangent"
        gradients.append(torch.autograd.grad(found.value, output)[0])
    assert torch.equal(gradients[0], gradients[1])
    assert gradients[0].square().mean().item() == pytest.approx(1.0, rel=1e-5)


def test_a_loss_may_be_given_by_name_or_as_a_function():
    output, target = torch.randn(6, 2), torch.randn(6, 2)
    assert evaluate(output, target, "l1", None).value.item() == pytest.approx(
        F.l1_loss(output, target).item()
    )
    assert evaluate(output, target, lambda o, t: (o - t).sum(), None).value.item() == pytest.approx(
        (output - target).sum().item()
    )


@pytest.mark.parametrize(
    ("output", "target", "loss", "says"),
    [
        (torch.randn(4, 3), torch.tensor([0, 1, 2, 3]), None, "class 3 is outside 0 to 2"),
        (torch.randn(4, 3), torch.tensor([0, -1, 2, 2]), None, "class -1"),
        (torch.randn(4, 3), torch.tensor([0, 1]), None, "does not fit"),
        (torch.randn(4, 1), torch.randn(4), None, "equal shapes"),
        (torch.randn(4, 3), torch.full((4,), IGNORED_CLASS), None, "no position is left"),
        (torch.randn(4, 3), None, "mse", "needs a target"),
        (torch.randn(4, 3), [1, 2, 0, 1], None, "not a tensor"),
        (torch.randn(4, 3), torch.randn(4, 3), "cross_entropy", "integer classes"),
        (torch.randn(4, 1), torch.tensor([0, 1, 2, 1]), None, "from 0 to 1"),
        (torch.randn(4, 3), torch.zeros(4), lambda o, t: o, "one number"),
        (torch.randn(4, 3), torch.zeros(4), lambda o, t: o @ t, "raised RuntimeError on output"),
        (torch.randn(4, 3), torch.zeros(4, dtype=torch.long, device="meta"), None, "on meta"),
        ({"ids": torch.arange(4)}, torch.zeros(4), None, "no floating tensor"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(output, target, loss, says):
    with pytest.raises(DataError, match=says) as caught:
        evaluate(output, target, loss, None)
    assert "\n" not in str(caught.value)


def test_an_unknown_loss_names_the_nearest():
    with pytest.raises(UnknownNameError, match="cross_entropy"):
        evaluate(torch.randn(4, 3), torch.arange(4) % 3, "crossentropy", None)


def test_entropy_of_labels():
    assert entropy_of(torch.arange(8) % 4, 4) == pytest.approx(math.log(4))
    assert entropy_of(torch.zeros(8, dtype=torch.long), 4) == 0.0
