"""What ends a model: its answer, also where the model compares it with a target itself."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from fanin.graph import Role, read_roles, record

X = torch.randn(4, 8)


class Net(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.encoder, self.mean, self.decoder = nn.Linear(8, 6), nn.Linear(6, 3), nn.Linear(3, 8)

    def forward(self, x):
        code = self.mean(F.relu(self.encoder(x)))
        return self.function(x, code, self.decoder(code))


def roles(function):
    return read_roles(record(Net(function), X))


def test_a_reconstruction_that_the_model_compares_with_its_input_is_its_answer():
    found = roles(lambda x, code, out: ((out - x).pow(2).mean(), out))
    assert found["decoder.weight"].role is Role.HEAD
    assert found["decoder.weight"].residual_branches == 0


def test_a_loss_over_masked_places_written_by_hand():
    def loss_and_answer(x, code, out):
        answer, wanted = out[:, 1:], x[:, 1:]
        return ((answer - wanted) ** 2 * (wanted > 0)).mean(), answer

    found = roles(loss_and_answer)
    assert found["decoder.weight"].role is Role.HEAD


def test_what_is_taken_off_the_input_and_not_returned_is_a_branch():
    found = roles(lambda x, code, out: x - out)
    assert found["decoder.weight"].residual_branches == 1
    assert found["decoder.weight"].role is not Role.HEAD


def test_a_code_that_is_returned_and_read_on_ends_nothing():
    found = roles(lambda x, code, out: (out, code))
    assert found["mean.weight"].role is Role.WEIGHT
    assert found["decoder.weight"].role is Role.HEAD
