"""auto on graph nets: what a node's degree does to a signal, against closed forms and runs."""

import math

import pytest
import torch
from torch import nn

import fanin

NODES, DEGREE, WIDTH = 240, 9, 64


def edges(degree=DEGREE):
    generator = torch.Generator().manual_seed(0)
    sources = torch.randint(NODES, (NODES * degree,), generator=generator)
    return torch.stack([sources, torch.arange(NODES).repeat(degree)])


class GraphNet(nn.Module):
    """Layers of one weight, its messages gathered before or after it."""

    def __init__(self, how, depth, root=False):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.roots = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth if root else 0))
        self.how = how

    def gather(self, x, edge):
        messages = x[edge[0]]
        if self.how == "max":
            place = edge[1][:, None].expand_as(messages)
            return torch.zeros_like(x).scatter_reduce(
                0, place, messages, "amax", include_self=False
            )
        out = torch.zeros_like(x).index_add(0, edge[1], messages)
        if self.how == "mean":
            ones = torch.ones(len(messages), 1)
            return out / torch.zeros(len(x), 1).index_add(0, edge[1], ones)
        return out

    def forward(self, x, edge):
        for index, layer in enumerate(self.layers):
            if self.roots:
                x = torch.relu(layer(self.gather(x, edge)) + self.roots[index](x))
            elif self.how == "max":
                x = torch.relu(self.gather(layer(x), edge))
            else:
                x = torch.relu(layer(self.gather(x, edge)))
        return x


def planned(model, edge):
    x = torch.randn(NODES, WIDTH, generator=torch.Generator().manual_seed(1))
    return fanin.plan(model, (x, edge)), x


HE = math.sqrt(2 / WIDTH)


@pytest.mark.parametrize(
    ("how", "power"),
    [
        ("sum", DEGREE),
        ("mean", 1 / DEGREE),
        # E[max²] of nine Gaussians, by the tables of order statistics: 1.4850² + 0.3574.
        ("max", 1.4850**2 + 0.3574),
    ],
)
def test_the_first_layer_by_what_gathering_does_to_standardised_data(how, power):
    plan, _ = planned(GraphNet(how, 2), edges())
    assert plan["layers.0.weight"].std == pytest.approx(HE / math.sqrt(power), rel=5e-3)
    assert "9 messages a node" in plan["layers.0.weight"].reason


def test_behind_a_relu_neighbours_are_alike():
    plan, _ = planned(GraphNet("sum", 3), edges())
    # ReLU takes a cosine of 0 to 1/π (Cho & Saul 2009): 9(1 + 8/π) instead of 9.
    power = DEGREE * (1 + (DEGREE - 1) / math.pi)
    assert plan["layers.1.weight"].std == pytest.approx(HE / math.sqrt(power), rel=5e-3)


def test_two_weights_that_meet_in_a_sum_share_the_power():
    plan, _ = planned(GraphNet("sum", 2, root=True), edges())
    assert plan["roots.0.weight"].std == pytest.approx(HE / math.sqrt(2), rel=5e-3)
    assert plan["layers.0.weight"].std == pytest.approx(HE / math.sqrt(2 * DEGREE), rel=5e-3)


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
@pytest.mark.parametrize("degree", [2, 20])
def test_signals_neither_grow_nor_fade_over_twelve_layers(how, degree):
    edge = edges(degree)
    model = GraphNet(how, 12, root=how != "max")
    plan, x = planned(model, edge)
    fanin.apply(plan, model, seed=3)
    seen = fanin.measure(model, (x, edge)).tensors.values()
    sizes = [t.rms for t in seen if t.operation == "relu"]
    assert len(sizes) == 12
    # He alone multiplies by √(degree) a layer and more: 20^6 = 6e7 for sums of twenty.
    # The largest of alike messages is less than that of independent ones: it fades a little.
    assert (0.1 if how == "max" else 0.2) < sizes[-1] / sizes[0] < 5


def test_weights_that_meet_in_the_output_are_heads():
    class Ends(GraphNet):
        def forward(self, x, edge):
            x = torch.relu(self.layers[0](self.gather(x, edge)))
            return self.layers[1](self.gather(x, edge)) + self.roots[1](x)

    plan, x = planned(model := Ends("mean", 2, root=True), edges())
    assert plan["roots.1.weight"].std == pytest.approx(0.25 / math.sqrt(2 * WIDTH), rel=5e-3)
    assert "at the model's end" in plan["layers.1.weight"].reason
    fanin.apply(plan, model, seed=0)
    assert float(model(x, edges()).detach().std()) == pytest.approx(0.25, rel=0.25)


def test_models_that_gather_nothing_are_planned_as_before():
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            return torch.relu(self.a(x) + self.b(x))

    plan = fanin.plan(Mixture(), torch.randn(64, 8))
    assert plan["a.weight"].std == pytest.approx(math.sqrt(2 / 8))


def test_an_empty_graph_changes_nothing():
    edge = torch.zeros(2, 0, dtype=torch.long)
    plan, _ = planned(GraphNet("sum", 2), edge)
    assert plan["layers.0.weight"].std == pytest.approx(HE)
