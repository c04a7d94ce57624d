"""Networks trained together end where they would have ended alone."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from fanin.comparing.course import Course, OptimizerChoice, evenly_spaced
from fanin.comparing.dataset import Samples, batch_rows
from fanin.comparing.ensemble import train_together
from fanin.comparing.how_to_train import saved_bytes, stack_size, why_one_by_one
from fanin.comparing.one_by_one import train_one
from fanin.comparing.task import task_for

STEPS = 12
DTYPE = torch.float64


class Tied(nn.Module):
    """One module under two names, so that its weight is used twice."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(9, 9)
        self.again = self.mix
        self.head = nn.Linear(9, 4)

    def forward(self, x):
        return self.head(self.again(torch.relu(self.mix(x.flatten(1)))))


class Shared(nn.Module):
    """One parameter in two modules."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(9, 9)
        self.again = nn.Linear(9, 9)
        self.again.weight = self.up.weight
        self.head = nn.Linear(9, 4)

    def forward(self, x):
        return self.head(self.again(torch.tanh(self.up(x.flatten(1)))))


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(9, 8)
        self.first.weight.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(3, 3))
        self.second = nn.Linear(8, 4)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x.flatten(1))))


def batch_normed():
    # No bias before the norm: its gradient is rounding noise, which Adam blows up.
    return nn.Sequential(
        nn.Conv2d(1, 3, 2, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
    )


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 4))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 2), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(4, 4)
    )


NETWORKS = {f.__name__: f for f in (mlp, cnn, Tied, Shared, Frozen, batch_normed)}


def networks(build, count):
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        made.append(build().to(DTYPE))
    return made


def course(optimizer="sgd", steps=STEPS, loss=None, targets=None):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 1, 3, 3, generator=generator, dtype=DTYPE)
    y = torch.randint(0, 4, (60,), generator=generator) if targets is None else targets
    train, held_out = Samples(x[:48], y[:48]), Samples(x[48:], y[48:])
    return Course(
        train=train,
        held_out=held_out,
        batches=batch_rows(48, 8, steps),
        task=task_for(loss, y),
        optimizer=OptimizerChoice(optimizer),
        held_out_steps=evenly_spaced(steps, 4),
        gradient_steps=evenly_spaced(steps - 1, 3),
    )


def both_ways(build, shared, rates):
    together = networks(build, len(rates))
    records = train_together(together, rates, shared, lambda steps: None)
    alone = networks(build, len(rates))
    expected = [
        train_one(model, rate, shared, lambda steps: None)
        for model, rate in zip(alone, rates, strict=True)
    ]
    return together, records, alone, expected


def assert_same(records, expected):
    for record, single in zip(records, expected, strict=True):
        for name in ("losses", "accuracies", "held_out_losses", "held_out_accuracies"):
            # Float64 and a dozen steps: only the rounding of batched products is left.
            assert getattr(record, name) == pytest.approx(
                getattr(single, name), rel=1e-9, abs=1e-12
            ), name
        assert record.held_out_steps == single.held_out_steps
        assert record.gradient_steps == single.gradient_steps
        assert record.gradient_norms.keys() == single.gradient_norms.keys()
        for name, norms in single.gradient_norms.items():
            assert record.gradient_norms[name] == pytest.approx(norms, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS.keys())
def test_together_is_alone(build, optimizer):
    shared = course(optimizer)
    together, records, alone, expected = both_ways(build, shared, [0.01, 0.1, 0.003])
    assert_same(records, expected)
    for one, other in zip(together, alone, strict=True):
        for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11, msg=name)
    # The seeds start apart and stay apart: equality above is not that of one network with itself.
    assert records[0].losses != pytest.approx(records[1].losses, rel=1e-3)


def test_regression_and_a_loss_of_the_users():
    targets = torch.randn(60, 4, dtype=DTYPE)
    for loss in (None, lambda output, y: (output - y).abs().mean()):
        shared = course(loss=loss, targets=targets)
        _, records, _, expected = both_ways(mlp, shared, [0.01, 0.02])
        assert_same(records, expected)
        assert records[0].accuracies == []


def test_one_that_diverges_ends_there_and_touches_no_other():
    shared = course(targets=torch.randn(60, 4, dtype=DTYPE), steps=60)
    _, records, _, expected = both_ways(mlp, shared, [0.01, 1e6, 0.02])
    assert_same([records[0], records[2]], [expected[0], expected[2]])
    assert records[1].diverged
    assert not math.isfinite(records[1].losses[-1])
    assert all(math.isfinite(loss) for loss in records[1].losses[:-1])
    assert len(records[1].losses) == len(expected[1].losses) < 60
    assert not records[0].diverged
    assert len(records[0].losses) == 60


def test_every_step_is_told_even_if_all_diverge():
    shared = course(targets=torch.randn(60, 4, dtype=DTYPE), steps=60)
    told = []
    train_together(networks(mlp, 2), [1e9, 1e9], shared, told.append)
    assert sum(told) == 120
    told.clear()
    train_one(networks(mlp, 1)[0], 1e9, shared, told.append)
    assert sum(told) == 60


def test_looking_at_held_out_data_in_parts_is_looking_at_once():
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(75, 1, 3, 3, generator=generator, dtype=DTYPE)
    y = torch.randint(0, 4, (75,), generator=generator)
    y[::7] = -100  # not counted, and not equally many in each part of 32
    shared = dataclasses.replace(course(steps=2), held_out=Samples(x, y), held_out_steps=(0,))
    models = networks(mlp, 2)
    with torch.no_grad():
        values = [m(x) for m in models]
    _, records, _, alone = both_ways(mlp, shared, [0.1, 0.1])
    for value, *both in zip(values, records, alone, strict=True):
        loss = nn.functional.cross_entropy(value, y)
        accuracy = (value.argmax(1) == y)[y != -100].double().mean()
        for record in both:
            assert record.held_out_losses == pytest.approx([loss.item()])
            assert record.held_out_accuracies == pytest.approx([accuracy.item()])


def test_stacks_stay_within_their_memory():
    shared, (model,) = course(), networks(mlp, 1)
    kept = saved_bytes(model, shared)
    # At least the activations of 8 samples × (9 inputs + 16 hidden), at most ten times that.
    assert 8 * 25 * 8 <= kept <= 8 * 25 * 80
    assert stack_size(100, kept) > 1000
    assert stack_size(100, 1 << 28) == 2
    assert stack_size(1 << 22, 1) == 4
    assert stack_size(1 << 40, 1 << 40) == 1


class Dropped(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(9, 16), nn.Dropout(0.5), nn.Linear(16, 4))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(9, 4)

    def forward(self, x):
        y = self.linear(x.flatten(1))
        return y if float(y.sum()) > 0 else 2 * y


class Attending(nn.Module):
    """PyTorch has no batching rule for the attention kernel on CPUs."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(9, 9)
        self.head = nn.Linear(9, 4)

    def forward(self, x):
        q = self.linear(x.flatten(1)).view(-1, 1, 3, 3)
        return self.head(nn.functional.scaled_dot_product_attention(q, q, q).flatten(1))


class Counting(nn.Module):
    """Reads a buffer that it rebinds in forward: outside of what can be stacked."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(9, 4)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.linear(x.flatten(1)) * self.calls


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (Dropped, "random numbers"),
        (Branching, "vmap cannot run it"),
        (Counting, "differs"),
        (Attending, "network by network"),
    ],
)
def test_what_cannot_be_stacked_is_seen(build, word):
    models = networks(build, 2)
    assert word in why_one_by_one(models, course(), "local", 100)
    assert word in why_one_by_one(models, course(), "together", 100)


def biased_batch_norm():
    return nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
    )


@pytest.mark.parametrize("build", [*NETWORKS.values(), biased_batch_norm])
def test_what_can_be_stacked_is_not_refused(build):
    models = networks(build, 2)
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in models]
    assert why_one_by_one(models, course(), "local", 100) == ""
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_large_networks_and_other_optimizers_train_one_by_one():
    models = networks(mlp, 2)
    assert "faster" in why_one_by_one(models, course(), "local", 10**9)
    assert why_one_by_one(models, course(), "one by one", 100) == "as asked"
    own = dataclasses.replace(
        course(), optimizer=OptimizerChoice("mine", lambda p, lr: torch.optim.AdamW(p, lr=lr))
    )
    assert "mine" in why_one_by_one(models, own, "local", 100)


def test_training_alone_leaves_the_global_generator():
    (model,) = networks(Dropped, 1)
    state = torch.random.get_rng_state()
    train_one(model, 0.1, course(), lambda steps: None)
    assert torch.equal(state, torch.random.get_rng_state())


def test_dropout_is_the_same_for_every_recipe_of_a_seed():
    first, second = (networks(Dropped, 1)[0] for _ in range(2))
    records = [train_one(m, 0.1, course(), lambda steps: None, seed=4) for m in (first, second)]
    assert records[0].losses == records[1].losses
    (third,) = networks(Dropped, 1)
    assert train_one(third, 0.1, course(), lambda steps: None, seed=5).losses != records[0].losses
