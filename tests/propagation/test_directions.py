"""In how many directions features vary, and along which ones outputs are differentiated.

The truth is counted from many samples.
"""

import pytest
import torch
from building_blocks import Module, N, batch, dense
from checks import assert_predicted

import fanin
from fanin.propagation import prediction
from fanin.propagation.cotangent import direction
from fanin.propagation.directions import inverse_directions


def counted(x):
    """Σλ²/(Σλ)² from products of different samples: E[(x·x′)²]/E[|x|²]²."""
    gram = (x @ x.T).square()
    strangers = (gram.sum() - gram.diagonal().sum()) / (len(x) * (len(x) - 1))
    return float(strangers / x.square().sum(1).mean() ** 2)


@pytest.mark.parametrize(("few", "strength"), [(4, 1.0), (12, 0.5), (40, 2.0)])
def test_a_sum_meets_in_every_direction(monkeypatch, few, strength):
    def run(m, x):
        return m.a(x) + strength * m.c(m.b(x))

    states = {}
    walk = prediction.walk_forward

    def watched(graph, given, *rest):
        states.update(graph=graph, states=walk(graph, given, *rest))
        return states["states"]

    monkeypatch.setattr(prediction, "walk_forward", watched)
    found = []
    for seed in range(6):
        torch.manual_seed(seed)
        net = Module(run, a=dense(200, 48), b=dense(200, few), c=dense(few, 48))
        with torch.no_grad():
            found.append(counted(net(batch(2000, 200, seed=seed))))
    fanin.predict(net, batch(8, 200))
    graph = states["graph"]
    total = next(o.outputs[0] for o in graph.operations if o.name == "add")
    share = inverse_directions(graph, states["states"], total)
    assert share == pytest.approx(sum(found) / len(found), rel=0.1)


def test_outputs_of_two_shapes_are_differentiated_along_two_directions():
    one, same, other = direction((4, 5, 99)), direction((4, 5, 99)), direction((4, 1, 5, 99))
    assert torch.equal(one, same)
    assert abs(float((one * other.view(4, 5, 99)).mean())) < 5 / (4 * 5 * 99) ** 0.5


def test_streams_that_leave_in_two_shapes_do_not_add_up():
    # Along one direction both would send the same back, √2 times what two strangers do.
    def run(m, x):
        y = m.b(m.a(x))
        return y, y.unsqueeze(1) * 1.0

    assert_predicted(lambda: Module(run, a=dense(), b=dense()), batch(32, N), backward=0.08)
