"""A model file as a user would write it, and a way to run the command line in this process."""

import textwrap

import pytest

from fanin.cli.main import run

MODEL_FILE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.body(x))


def make():
    torch.manual_seed(0)
    return Net()


def with_inputs():
    return make(), torch.randn(8, 16)


def batch():
    torch.manual_seed(1)
    return torch.randn(256, 16), torch.randint(0, 4, (256,))


def zeros():
    model = make()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def load():
    torch.manual_seed(2)
    x = torch.randn(512, 16)
    return x, (x[:, :4]).argmax(1)


def nan_load():
    x, y = load()
    x[3, 3] = float("nan")
    return x, y


def broken():
    raise ValueError("no weights today")


class Raises(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(16, 4)

    def forward(self, x):
        raise RuntimeError("on purpose")


class Integers(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(16, 4)
        self.table = nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)

    def forward(self, x):
        return self.lin(x)


number = 3


def needs(argument):
    return Net()
"""


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "mymodel.py"
    path.write_text(textwrap.dedent(MODEL_FILE))
    return path


@pytest.fixture
def fanin_command(capsys):
    """Run ``fanin …``: (exit status, stdout, stderr)."""

    def call(*arguments):
        status = run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call
