"""What runs a model undoes all that the model wrote into itself and its inputs, however it ends."""

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import RecordError
from fanin.measuring import simulate

ENDS = {"well": None, "raising": ValueError, "interrupted": KeyboardInterrupt}
RUNS = {
    "measure": lambda model, x: fanin.measure(model, x, target=torch.zeros(2, 4)),
    "predict": fanin.predict,
    "plan": fanin.plan,
    "check": lambda model, x: fanin.check(model, x, target=torch.zeros(2, 4)),
    "simulate": lambda model, x: simulate(model, x, target=torch.zeros(2, 4)),
}


def teach(model, x):
    """As a momentum encoder is: frozen weights that follow the trained ones at every call."""
    with torch.no_grad():
        model.follower.weight.mul_(0.5).add_(model.layer.weight, alpha=0.5)


def renormalise(model, x):
    with torch.no_grad():
        model.layer.weight.div_(model.layer.weight.norm())


def count(model, x):
    model.seen += 1
    model.history[0] = x.sum()


def overwrite_inputs(model, x):
    x.mul_(3)


class Writes(nn.Module):
    def __init__(self, deed, error):
        super().__init__()
        self.layer, self.follower = nn.Linear(4, 4), nn.Linear(4, 4)
        self.follower.requires_grad_(False)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("history", torch.zeros(3))
        self.deed, self.error = deed, error

    def forward(self, x):
        self.deed(self, x)
        out = self.layer(x) + self.follower(x)
        if self.error is not None:
            raise self.error("stop")
        return out


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("deed", [teach, renormalise, count, overwrite_inputs])
@pytest.mark.parametrize("run", RUNS)
def test_nothing_that_the_model_wrote_stays(run, deed, end):
    model, x = Writes(deed, ENDS[end]), torch.ones(2, 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    objects = [id(p) for p in model.parameters()]
    if ENDS[end] is None:
        RUNS[run](model, x)
    else:
        with pytest.raises(RecordError if ENDS[end] is ValueError else ENDS[end]):
            RUNS[run](model, x)
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())
    assert torch.equal(x, torch.ones(2, 4))
    assert [id(p) for p in model.parameters()] == objects
    assert all(p.grad is None for p in model.parameters())


def test_signals_of_weights_are_those_of_the_start():
    model = Writes(renormalise, None)
    expected = model.layer.weight.std(correction=0).item()
    signals = fanin.measure(model, torch.randn(8, 4), target=torch.zeros(8, 4))
    assert signals.parameters["layer.weight"].std == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_raises_leaves_the_weights_as_they_were():
    model = Writes(teach, None)
    before = model.follower.weight.clone()

    def loss(output, target):
        raise ZeroDivisionError

    with pytest.raises(Exception, match=r"ZeroDivision|loss"):
        fanin.measure(model, torch.ones(2, 4), target=torch.zeros(2, 4), loss=loss)
    assert torch.equal(model.follower.weight, before)
