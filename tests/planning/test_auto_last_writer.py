"""The writer of a residual sum that is the model's output starts as a head does."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin

WIDTH = 64
X = torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 256), nn.Linear(256, WIDTH)

    def forward(self, x):
        return x + self.fc2(F.relu(self.fc1(self.norm(x))))


def added(model):
    """RMS of what the last branch adds."""
    fanin.initialize(model, X, "auto")
    before = []
    model[-1].register_forward_pre_hook(lambda _m, args: before.append(args[0]))
    with torch.no_grad():
        return (model(X) - before[0]).square().mean().sqrt().item()


@pytest.mark.parametrize("blocks", [1, 4])
def test_it_adds_a_quarter_of_what_a_writer_does(blocks):
    model = nn.Sequential(*[Block() for _ in range(blocks)])
    headed = fanin.plan(nn.Sequential(*[Block() for _ in range(blocks)], nn.Linear(WIDTH, 5)), X)
    plan = fanin.plan(model, X)
    last = f"{blocks - 1}.fc2.weight"
    assert plan[last].reason.endswith(f"a head: × 0.25 · {blocks}^(−½)")
    assert plan[last].std == pytest.approx(headed[last].std / 4)
    for name in plan:
        if name != last:
            assert plan[name].std == headed[name].std
    # SmallInit's readers pass 0.4 of the power on: √0.4/√(blocks)/4 of the stream's unit RMS.
    assert added(model) == pytest.approx(0.4**0.5 / 4 / blocks**0.5, rel=0.15)


class Ending(nn.Module):
    """What is done to the last sum."""

    def __init__(self, form):
        super().__init__()
        self.form, self.block = form, Block()
        self.norm, self.last = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x):
        h = self.block(x)
        if self.form == "mean":
            return h.mean(0)
        if self.form == "head beside":
            return h, self.last(h)
        return self.norm(h) if self.form == "norm" else self.last(h)


@pytest.mark.parametrize(
    ("form", "ends"), [("mean", True), ("head beside", False), ("norm", False), ("head", False)]
)
def test_what_follows_the_sum_decides(form, ends):
    reason = fanin.plan(Ending(form), X)["block.fc2.weight"].reason
    assert ("writes to the model's output" in reason) is ends
