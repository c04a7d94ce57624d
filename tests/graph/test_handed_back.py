"""Models that change themselves while they run are handed back as they were, however it ends."""

import random
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn

from fanin.errors import RecordError
from fanin.graph import record

ENDS = {"well": None, "raising": ValueError, "interrupted": KeyboardInterrupt}


class Rude(nn.Module):
    """A linear layer, and something done to the model before it runs."""

    def __init__(self, deed, **belongings):
        super().__init__()
        self.layer, self.deed, self.error = nn.Linear(4, 4), deed, None
        for name, value in belongings.items():
            setattr(self, name, value)

    def forward(self, x):
        self.deed(self, x)
        if self.error is not None:
            raise self.error("stop")
        return self.layer(x)


class Counter:
    def __init__(self):
        self.calls = 0


def write_weight(model, x):
    with torch.no_grad():
        model.layer.weight.mul_(2)


def step(model, x):
    optimizer = torch.optim.SGD(model.layer.parameters(), lr=1.0)
    model.layer(x).sum().backward()
    optimizer.step()


def replace_data(model, x):
    model.layer.weight.data = torch.zeros(4, 4, dtype=torch.float64)
    model.layer.bias.data = torch.zeros(4, dtype=torch.float64)
    model.layer.float()


def fill_containers(model, x):
    model.nest["a"][0].append(1)
    model.queue.append(1)
    model.nest["t"].add_(1)


def draw(model, x):
    torch.randn(2, generator=model.torch_numbers)
    model.numpy_numbers.standard_normal()
    model.python_numbers.random()


def count(model, x):
    model.counter.calls += 1
    model.array += 1


def grow(model, x):
    model.register_parameter("new", nn.Parameter(torch.ones(2)))
    model.layer.register_forward_hook(lambda *_: None)
    model.layer.weight.register_hook(lambda gradient: gradient)
    model.child = nn.Linear(2, 2)
    model.eval().requires_grad_(False)


DEEDS = {
    "writes its weight": lambda: Rude(write_weight),
    "takes an optimizer step": lambda: Rude(step),
    "replaces data": lambda: Rude(replace_data),
    "fills containers": lambda: Rude(
        fill_containers, nest={"a": ([],), "t": torch.zeros(2)}, queue=deque()
    ),
    "draws numbers of its own": lambda: Rude(
        draw,
        torch_numbers=torch.Generator().manual_seed(0),
        numpy_numbers=np.random.default_rng(0),
        python_numbers=random.Random(0),
    ),
    "counts in objects": lambda: Rude(count, counter=Counter(), array=np.zeros(2)),
    "grows": lambda: Rude(grow),
}


def numbers_of(model):
    if not hasattr(model, "torch_numbers"):
        return None
    states = model.numpy_numbers.bit_generator.state, model.python_numbers.getstate()
    return model.torch_numbers.get_state().tolist(), *states


def state(model):
    return {
        "parameters": {n: (id(p), p.dtype, p.tolist()) for n, p in model.named_parameters()},
        "memory": [p.data_ptr() for p in model.parameters()],
        "gradients": [p.grad for p in model.parameters()],
        "requires": [p.requires_grad for p in model.parameters()],
        "tensor hooks": [p._backward_hooks for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "names": [list(vars(m)) for m in model.modules()],
        "hooks": [dict(m._forward_hooks) for m in model.modules()],
        "nest": str(getattr(model, "nest", "")),
        "queue": list(getattr(model, "queue", ())),
        "calls": getattr(getattr(model, "counter", None), "calls", 0),
        "array": getattr(model, "array", np.zeros(0)).tolist(),
        "numbers": numbers_of(model),
    }


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("deed", DEEDS)
def test_a_model_that_changes_itself(deed, end):
    model, error = DEEDS[deed](), ENDS[end]
    model.error = error
    before = state(model)
    if error is None:
        record(model, torch.ones(2, 4))
    else:
        with pytest.raises(RecordError if error is ValueError else error):
            record(model, torch.ones(2, 4))
    assert state(model) == before


@pytest.mark.parametrize("end", ENDS)
def test_inputs_that_are_overwritten(end):
    model, x = Rude(lambda _, x: x.mul_(3)), torch.ones(2, 4)
    model.error = ENDS[end]
    if model.error is None:
        record(model, x)
    else:
        with pytest.raises((RecordError, KeyboardInterrupt)):
            record(model, x)
    assert torch.equal(x, torch.ones(2, 4))
