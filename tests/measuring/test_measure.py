"""What measure reads, against autograd; and that it leaves the model as it found it."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.errors import DataError, RecordError
from fanin.measuring import measure, measured, simulate


class InPlace(nn.Module):
    """Values that are overwritten, through views too."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.first(x)
        h[:, :4].mul_(2)
        h += 1
        h.relu_()
        return self.second(h)


def convnet():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(8 * 36, 5),
    )


def state_of(model):
    return {
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "modes": [m.training for m in model.modules()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "requires": [p.requires_grad for p in model.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "rng": torch.get_rng_state(),
    }


def assert_same(before, after):
    assert before["modes"] == after["modes"]
    assert before["requires"] == after["requires"]
    assert before["hooks"] == after["hooks"]
    assert torch.equal(before["rng"], after["rng"])
    assert all(torch.equal(v, after["state"][k]) for k, v in before["state"].items())
    for one, other in zip(before["grads"], after["grads"], strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def test_the_model_is_left_as_it_was():
    model = convnet()
    model[1].eval()  # a frozen BatchNorm inside a training model
    model[0].weight.requires_grad_(False)
    model[5].weight.grad = torch.ones_like(model[5].weight)
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    before = state_of(model)
    x, y = torch.randn(4, 3, 6, 6), torch.arange(4)
    before["rng"] = torch.get_rng_state()
    measure(model, x, target=y, histograms=True)
    simulate(model, x, target=y)
    assert_same(before, state_of(model))
    assert seen


def test_the_model_is_left_as_it_was_when_it_raises():
    model = convnet()
    before = state_of(model)
    for wrong in (torch.randn(4, 2, 6, 6), torch.randn(4, 3, 7, 7)):
        before["rng"] = torch.get_rng_state()
        with pytest.raises(RecordError, match="raised RuntimeError"):
            measure(model, wrong)
        assert_same(before, state_of(model))
    with pytest.raises(DataError, match="class 9"):
        measure(model, torch.zeros(2, 3, 6, 6), target=torch.tensor([0, 9]))
    assert_same({**before, "rng": torch.get_rng_state()}, state_of(model))


def test_a_batch_norm_in_training_keeps_its_statistics():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    measure(model, torch.randn(16, 4))
    assert model[1].num_batches_tracked == 0
    assert torch.equal(model[1].running_mean, torch.zeros(4))


def test_gradients_are_those_of_autograd():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    x, y = torch.randn(10, 6), torch.arange(10) % 3
    signals = measure(model, x, target=y)
    hidden = model[0](x)
    active = torch.tanh(hidden)
    loss = F.cross_entropy(model[2](active), y)
    wanted = torch.autograd.grad(loss, [hidden, active, *model.parameters()])
    row = signals.layers[0]
    assert signals.loss == pytest.approx(loss.item())
    assert row.output_rms == pytest.approx(hidden.square().mean().sqrt().item(), rel=1e-5)
    assert row.activated_rms == pytest.approx(active.square().mean().sqrt().item(), rel=1e-5)
    assert row.gradient_rms == pytest.approx(wanted[0].square().mean().sqrt().item(), rel=1e-4)
    assert signals.tensors[row.activated].gradient_rms == pytest.approx(
        wanted[1].square().mean().sqrt().item(), rel=1e-4
    )
    for (name, _), gradient in zip(model.named_parameters(), wanted[2:], strict=True):
        assert signals.parameters[name].gradient_rms == pytest.approx(
            gradient.square().mean().sqrt().item(), rel=1e-4
        )
    lengths = hidden.square().mean(1).sqrt() * wanted[0].norm(dim=1)
    assert signals.tensors[row.output].sensitivity == pytest.approx(lengths.norm().item(), rel=1e-4)


def test_values_overwritten_in_place_keep_their_own_signals():
    torch.manual_seed(0)
    model = InPlace()
    x, y = torch.randn(10, 6), torch.arange(10) % 3
    signals = measure(model, x, target=y)
    raw = model.first(x)
    scaled = raw * torch.tensor([2.0] * 4 + [1.0] * 4)
    moved = scaled + 1
    active = torch.relu(moved)
    loss = F.cross_entropy(model.second(active), y)
    wanted = {
        (value.square().mean().sqrt().item(), gradient.square().mean().sqrt().item())
        for value, gradient in zip(
            (raw, moved, active),
            torch.autograd.grad(loss, [raw, moved, active]),
            strict=True,
        )
    }
    row = signals.layers[0]
    assert row.output_rms == pytest.approx(raw.square().mean().sqrt().item(), rel=1e-5)
    found = [(s.rms, s.gradient_rms) for s in signals.tensors.values()]
    for rms, gradient in wanted:
        assert any(
            value == pytest.approx(rms, rel=1e-5) and seen == pytest.approx(gradient, rel=1e-4)
            for value, seen in found
            if seen is not None
        )


def test_a_backward_pass_that_raises_is_one_clear_line():
    class Overwrites(nn.Linear):
        def forward(self, x):
            h = torch.relu(super().forward(x))
            h += 1  # relu's backward pass needs what it returned
            return h

    with pytest.raises(RecordError, match=r"backward pass .* inplace operation") as caught:
        measure(Overwrites(4, 3), torch.randn(8, 4))
    assert "\n" not in str(caught.value)


def test_shares_of_dead_and_saturated_units():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    with torch.no_grad():
        model[0].bias.fill_(0)
        model[0].bias[:2] = -1e3
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([0.0, 0, 0, 0, 0, 3, 3, -3]))
    signals = measure(model, torch.randn(64, 4))
    assert signals.layers[0].dead_share == pytest.approx(2 / 8)
    assert signals.layers[0].observations == 64
    assert signals.layers[1].saturated_share == pytest.approx(3 / 8)


def test_dead_channels_are_counted_over_samples_and_positions():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    with torch.no_grad():
        model[1].bias[:3] = -1e3
    row = measure(model, torch.randn(4, 3, 6, 6)).layers[0]
    assert row.dead_share == pytest.approx(3 / 8)
    assert row.observations == 4 * 16


def test_correlation_is_the_mean_cosine_between_samples():
    x = torch.randn(5, 12)
    model = nn.Linear(12, 7, bias=False)
    signals = measure(model, x)
    out = F.normalize(model(x).detach(), dim=1)
    cosines = out @ out.T
    expected = (cosines.sum() - 5) / 20
    assert signals.tensors[signals.layers[0].output].correlation == pytest.approx(
        expected.item(), abs=1e-5
    )


def test_fans_and_histograms_of_every_layer():
    signals = measure(convnet(), torch.randn(4, 3, 6, 6), histograms=True)
    assert [(row.fan_in, row.fan_out) for row in signals.layers] == [(27.0, 72.0), (288.0, 5.0)]
    for row in signals.layers:
        assert sum(row.weight_histogram.counts) == math.prod(row.shape)
        assert row.output_histogram is not None
        assert row.gradient_histogram is not None


def test_the_std_of_a_parametrised_weight_is_that_which_the_model_uses():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(3)
    (row,) = measure(layer, torch.randn(4, 16)).layers
    assert row.weight_std == pytest.approx(layer.weight.std(correction=0).item(), rel=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_fused_attention_has_the_entropy_of_its_weights(causal):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(16, 48)

        def forward(self, x):
            q, k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
            return F.scaled_dot_product_attention(q * 4, k, v, is_causal=causal)

    torch.manual_seed(0)
    model, x = Attention(), torch.randn(3, 20, 16)
    found = measure(model, x).attention
    q, k, _ = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in model.qkv(x).chunk(3, -1))
    scores = q * 4 @ k.transpose(-1, -2) / math.sqrt(8)
    if causal:
        scores = scores.masked_fill(torch.ones(20, 20).triu(1).bool(), -math.inf)
    shares = []
    for weights in scores.softmax(-1).reshape(-1, 20):
        valid = weights[weights > 0]
        if len(valid) >= 8:
            shares.append((-(valid * valid.log()).sum() / math.log(len(valid))).item())
    assert len(found) == 1
    assert found[0].keys == 20
    assert found[0].entropy_share == pytest.approx(sum(shares) / len(shares), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)
    signals = measure(model, torch.randn(16, 8, dtype=dtype), target=torch.arange(16) % 3)
    assert all(row.gradient_rms > 0 for row in signals.layers)


def test_a_frozen_model_has_signals_and_no_gradients():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).requires_grad_(False)
    signals = measure(model, torch.randn(16, 8), target=torch.arange(16) % 3)
    assert signals.layers[0].output_rms > 0
    assert signals.layers[0].gradient_rms is None
    assert signals.parameters["0.weight"].used is None


def test_inside_no_grad_and_inference_mode():
    model, x = nn.Linear(4, 3), torch.randn(8, 4)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert measure(model, x, target=torch.arange(8) % 3).layers[0].gradient_rms > 0
            assert not torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("inputs", "target", "says"),
    [
        (torch.full((4, 4), float("nan")), None, "16 of 16 values are NaN"),
        (torch.full((4, 4), float("inf")), None, "infinite"),
        (torch.zeros(0, 4), None, "empty"),
        (torch.zeros(4, 4), torch.tensor([0.0, float("nan"), 1, 1]), "NaN"),
        (torch.zeros(4, 4), torch.zeros(0), "empty"),
        ({"input": [torch.zeros(4, 4), torch.full((1,), float("nan"))]}, None, r"\['input'\]\[1\]"),
        (torch.zeros(4, 4), torch.tensor([0, 1, 2, 3]), "class 3"),
    ],
)
def test_data_that_cannot_be_used(inputs, target, says):
    with pytest.raises(DataError, match=says) as caught:
        measure(nn.Linear(4, 3), inputs, target=target)
    assert "\n" not in str(caught.value)


def test_a_model_on_meta_has_nothing_to_measure():
    with pytest.raises(RecordError, match="meta"):
        measure(nn.Linear(4, 3, device="meta"), torch.zeros(2, 4))


def test_masks_may_hold_minus_infinity():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x, mask):
            return (self.layer(x) + mask).softmax(-1)

    mask = torch.tensor([0.0, 0.0, 0.0, -math.inf])
    assert measure(Masked(), {"x": torch.randn(2, 4), "mask": mask}).layers


def test_ids_are_those_of_the_recorded_graph():
    from fanin.graph import record

    model, x = convnet().eval(), torch.randn(2, 3, 6, 6)
    found = measured(model, x)
    assert found.graph.operations == record(model, x).operations


class TestSimulation:
    def test_wakes_what_waits_behind_zeros(self):
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        nn.init.zeros_(model[2].weight)
        found = simulate(model, torch.randn(16, 4), target=torch.arange(16) % 3)
        assert found.woke["2.weight"] == 0
        assert found.woke["0.weight"] == 1

    def test_does_not_wake_two_zero_factors(self):
        model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Linear(8, 3, bias=False))
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        found = simulate(model, torch.randn(16, 4), target=torch.arange(16) % 3)
        assert found.woke == {"0.weight": None, "1.weight": None}

    def test_leaves_the_model_alone(self):
        model = convnet()
        before = copy.deepcopy(model.state_dict())
        simulate(model, torch.randn(4, 3, 6, 6), target=torch.arange(4))
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_sparse_gradients_count_their_zeros(kind):
    torch.manual_seed(0)
    ids = torch.randint(0, 30, (8, 5))
    rms = {}
    for sparse in (False, True):
        torch.manual_seed(1)
        table = kind(30, 4, sparse=sparse)
        found = measure(table, ids).parameters["weight"]
        rms[sparse] = found.gradient_rms
        assert fanin.check(table, ids).ok
    assert rms[True] == pytest.approx(rms[False], rel=1e-6)
