"""``fanin.predict`` as a whole: meta models, plans, honesty about what it does not know.

Inputs come from seed 1: ``fanin.measure`` draws its direction on the output from seed 0, and an
input of the output's shape and seed would be that very direction.
"""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import fanin
from fanin.errors import DataError, PlanError
from fanin.propagation.tracing import trace


def mlp():
    return nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def test_a_meta_model_with_a_plan_equals_the_real_one_with_that_plan():
    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    plan = fanin.plan(mlp(), x, "kaiming_normal")
    with torch.device("meta"):
        meta = mlp()
    on_meta, real = fanin.predict(meta, x, plan), fanin.predict(mlp(), x, plan)
    for tensor, signal in real.tensors.items():
        # On meta the batch has no values and counts as N(0, 1): 2048 numbers, so 2 % off it.
        assert on_meta.tensors[tensor].rms == pytest.approx(signal.rms, rel=0.05, abs=1e-12)
    assert on_meta.source == "predicted"
    assert any("N(0, 1)" in note for note in on_meta.notes)


def test_he_keeps_the_second_moment_of_relu_layers():
    x = torch.randn(256, 64, generator=torch.Generator().manual_seed(1))
    plan = fanin.plan(mlp(), x, "kaiming_normal")
    rows = fanin.predict(mlp(), x, plan).layers
    assert [row.activation for row in rows] == ["relu", "relu", "linear"]
    assert rows[1].output_rms == pytest.approx(rows[0].output_rms, rel=1e-3)
    assert rows[0].activated_rms == pytest.approx(rows[0].output_rms / 2**0.5, rel=1e-3)
    assert [row.weight_std for row in rows] == pytest.approx(
        [(2 / 64) ** 0.5, *[(2 / 256) ** 0.5] * 2]
    )


def test_a_plan_wins_over_the_weights_that_stand_there():
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
    model = mlp()
    with torch.no_grad():
        model[0].weight.fill_(7.0)
    planned = fanin.predict(model, x, fanin.plan(mlp(), x, "kaiming_normal"))
    assert planned.layers[0].weight_std == pytest.approx((2 / 64) ** 0.5)
    assert fanin.predict(model, x).layers[0].weight_mean == pytest.approx(7.0)


def test_a_mirrored_net_is_predicted_to_keep_everything():
    depth, width = 30, 64
    layers = [nn.Linear(width, width, bias=False)]
    for _ in range(depth):
        layers += [nn.GELU(), nn.Linear(width, width, bias=False)]
    model = nn.Sequential(*layers)
    x = torch.randn(64, width, generator=torch.Generator().manual_seed(1))
    from fanin.schemes import Mirrored

    overrides = {"*.weight": Mirrored(mirror="both"), "0.weight": Mirrored(mirror="outputs")}
    plan = fanin.plan(model, x, "torch", overrides=overrides)
    fanin.apply(plan, model)
    predicted, measured = fanin.predict(model, x, plan), fanin.measure(model, x)
    for row, truth in zip(predicted.layers, measured.layers, strict=True):
        assert row.output_rms == pytest.approx(truth.output_rms, rel=0.02)


def test_the_model_is_left_as_found_and_inputs_may_be_anything_that_fits():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.random.get_rng_state()
    fanin.predict(model, (torch.randn(3, 4, generator=torch.Generator().manual_seed(1)),))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (model.training, model[1].training) == (True, False)


def test_a_meta_model_without_a_plan_is_an_error_that_says_what_to_pass():
    with torch.device("meta"):
        model = mlp()
    with pytest.raises(PlanError, match="plan"):
        fanin.predict(model, torch.zeros(2, 64))


def test_inputs_that_do_not_fit():
    with pytest.raises(DataError):
        fanin.predict(mlp(), 3)


def test_zero_weights_give_zeros_and_no_gradient_behind_them():
    model = mlp()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    signals = fanin.predict(model, torch.randn(4, 64))
    assert all(row.output_rms == 0 for row in signals.layers)
    assert signals.layers[0].gradient_rms == 0


def test_the_models_own_loss_is_where_gradients_start():
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(64, 128), nn.Linear(128, 10)

        def forward(self, x, labels):
            logits = self.head(self.body(x).tanh())
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
    inputs = {"x": x, "labels": torch.arange(64) % 10}
    torch.manual_seed(0)
    model = WithLoss()
    predicted, measured = fanin.predict(model, inputs), fanin.measure(model, inputs)
    for row, truth in zip(predicted.layers, measured.layers, strict=True):
        assert row.gradient_rms == pytest.approx(truth.gradient_rms, rel=0.25)


def test_empty_batches_and_scalars_do_not_break():
    signals = fanin.predict(nn.Linear(4, 3), torch.zeros(0, 4))
    assert signals.layers[0].output_rms is None  # as measured: nothing has no moments
    assert fanin.predict(nn.Linear(4, 3), torch.zeros(4)).layers[0].output_rms >= 0


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.body = nn.Embedding(11, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.body(self.table(x)).tanh() @ self.table.weight.T


TOKENS = torch.arange(12).reshape(3, 4) % 11
LAYERED = {
    "weight_norm": (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 6)),
                                          nn.ReLU(), nn.Linear(6, 3)), torch.randn(4, 8)),
    "spectral_norm": (lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(8, 6)),
                                            nn.Tanh(), nn.Linear(6, 3)), torch.randn(4, 8)),
    "lstm": (lambda: nn.LSTM(8, 8, 2), torch.randn(5, 4, 8)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
                    torch.randn(2, 3, 5, 5)),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16), torch.randn(5, 4, 8)),
    "tied": (Tied, TOKENS),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERED)
def test_a_prediction_has_the_rows_of_a_measurement(name):
    build, x = LAYERED[name]
    torch.manual_seed(0)
    model = build()
    predicted, measured = fanin.predict(model, x).layers, fanin.measure(model, x).layers
    assert len(predicted) == len(measured) > 0
    for one, other in zip(predicted, measured, strict=True):
        for field in ("weight", "module", "kind", "shape", "fan_in", "fan_out", "output",
                      "activation", "activated"):  # fmt: skip
            assert getattr(one, field) == getattr(other, field), field
        assert one.weight_std == pytest.approx(other.weight_std, rel=0.02, abs=1e-6)


def test_packed_projections_of_unequal_power_are_told_apart():
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True), 2
    )
    x = torch.randn(8, 12, 64, generator=torch.Generator().manual_seed(1))
    plan = fanin.plan(model, x)
    packed = plan["layers.0.self_attn.in_proj_weight"].scheme
    assert len({repr(s) for s in packed.schemes}) == 2  # v has a power of its own
    predicted = fanin.predict(model, x, plan)
    squares = {}
    for seed in range(6):
        fanin.apply(plan, model, seed=seed)
        for tensor, signal in fanin.measure(model, x).tensors.items():
            squares.setdefault(tensor, []).append((signal.rms**2, signal.gradient_rms))
    for tensor, signal in predicted.tensors.items():
        if signal.operation in (
            "bmm",
            "addmm",
            "mm",
            "_scaled_dot_product_flash_attention_for_cpu",
        ):
            if signal.gradient_rms is None:
                continue
            rms = (sum(q for q, _ in squares[tensor]) / 6) ** 0.5
            gradient = (sum(g * g for _, g in squares[tensor]) / 6) ** 0.5
            assert signal.rms == pytest.approx(rms, rel=0.1), signal
            assert signal.gradient_rms == pytest.approx(gradient, rel=0.2), signal


@pytest.mark.parametrize("activation", [nn.GELU, nn.Mish, nn.Sigmoid])
def test_mirrored_weights_are_known_by_their_values(activation):
    torch.manual_seed(0)
    layers = [layer for _ in range(30) for layer in (nn.Linear(128, 128), activation())]
    model, x = nn.Sequential(*layers, nn.Linear(128, 10)), torch.randn(256, 128)
    fanin.initialize(model, x)
    told = {row.weight: row for row in fanin.predict(model, x).layers}
    # Taken for independent, thirty layers lose signals and gradients by factors of 10 to 10⁴.
    for row in fanin.measure(model, x).layers:
        assert told[row.weight].output_rms == pytest.approx(row.output_rms, rel=0.15)
        assert told[row.weight].gradient_rms == pytest.approx(row.gradient_rms, rel=0.25)


def test_what_weights_make_of_tokens_is_predicted_and_not_read_off_the_run():
    """Values at hand are those of weights alone; what they make of a batch of ids is a signal."""
    head = nn.utils.parametrizations.weight_norm(nn.Linear(64, 8))
    model = nn.Sequential(nn.Embedding(50, 64), nn.Linear(64, 64), nn.ReLU(), head)
    run = trace(model, torch.randint(0, 50, (4, 16)), weights=True)
    shapes = {run.graph.tensors[value].shape for value in (*run.derived, *run.constants)}
    assert (8, 64) in shapes
    assert not any(16 in shape or 4 in shape for shape in shapes)


def test_the_row_of_a_parametrised_weight_is_of_its_layer_not_of_its_parametrisation():
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.orthogonal(nn.Linear(32, 32, bias=False))
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    (told,), (seen,) = fanin.predict(layer, x).layers, fanin.measure(layer, x).layers
    assert told.output == seen.output
    assert told.output_rms == pytest.approx(seen.output_rms, rel=0.02)


def test_operations_that_want_other_numbers_are_run_on_samples():
    """One that checks what it is given, and raises ValueError as ATen's cat does."""
    with torch.library._scoped_library("fanin_picky", "DEF") as library:
        library.define("half_of(Tensor x) -> Tensor", tags=[torch.Tag.pointwise])

        def half_of(x):
            if x.dtype != torch.float32:
                raise ValueError("float32 alone")
            return x / 2

        library.impl("half_of", half_of, "CPU")
        library.impl("half_of", torch.empty_like, "Meta")

        class Picky(nn.Module):
            def forward(self, x):
                return torch.ops.fanin_picky.half_of(x)

        with torch.no_grad():
            signals = fanin.predict(
                Picky(), torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
            )
    made = next(s for s in signals.tensors.values() if s.operation == "half_of")
    assert made.sampled
    assert made.rms == pytest.approx(0.5, rel=0.05)
