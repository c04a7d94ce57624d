"""The picture and the page of a plan, and the page of a ledger."""

from dataclasses import replace

import pytest
import torch
from page_reading import assert_sound
from report_samples import (
    HOSTILE,
    MARKUP,
    a_ledger,
    a_resnet_plan,
    a_signal,
    a_transformer_plan,
    an_assignment,
)
from torch import nn

import fanin
from fanin.errors import OutputError
from fanin.planning.assignment import Plan
from fanin.reporting import ledger_page, plan_page, save_ledger, save_plan
from fanin.reporting.picture.flow import Repeat, Residual, layers_of, plan_flow
from fanin.reporting.picture.layer import Layer
from fanin.reporting.picture.layout import BOX_HEIGHT, BOX_WIDTH, lay_out
from fanin.schemes import Kaiming, Normal, Ones, Zeros
from fanin.signals import Signals


def paths(items):
    return [layer.path for layer in layers_of(items)]


def test_a_transformer_is_two_branches_repeated():
    flow = plan_flow(a_transformer_plan(blocks=12))
    assert [type(item) for item in flow] == [Layer, Layer, Repeat, Layer, Layer]
    blocks = flow[2]
    assert blocks.count == 12
    attention, mlp = blocks.rounds[3]
    assert paths(attention.branch) == ["h.3.ln_1", "h.3.attn.qkv", "h.3.attn.proj"]
    assert paths(mlp.branch) == ["h.3.ln_2", "h.3.mlp.up", "h.3.mlp.down"]


def test_a_resnets_branches_end_behind_the_norm_and_shortcuts_stand_beside():
    flow = plan_flow(a_resnet_plan(stages=1, blocks=3))
    stem, norm, first, rest, head = flow
    assert (stem.path, norm.path, head.path) == ("conv1", "bn1", "fc")
    assert isinstance(first, Residual)
    assert paths(first.branch) == [f"layer1.0.{name}" for name in ("conv1", "bn1", "conv2", "bn2")]
    assert paths(first.shortcut) == ["layer1.0.downsample.0", "layer1.0.downsample.1"]
    assert rest.count == 2
    assert not rest.rounds[0][0].shortcut


class PreNorm(nn.Module):
    """A block whose norms are registered last, as Llama's are."""

    def __init__(self, width):
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        return x + self.down(self.up(self.norm(x)).relu())


class Downsampling(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.norm = nn.BatchNorm2d(8)
        self.match = nn.Conv2d(4, 8, 1, 2)  # its name does not say that it is a shortcut

    def forward(self, x):
        return self.norm(self.b(self.a(x).relu())) + self.match(x)


def planned_flow(model, inputs):
    # On "auto": its evidence has lines of its own before those of the graph.
    return plan_flow(fanin.plan(model, inputs, "auto"))


def test_layers_stand_as_they_ran_not_as_they_were_registered():
    model = nn.Sequential(nn.Linear(8, 8), *(PreNorm(8) for _ in range(3)), nn.Linear(8, 2))
    stem, blocks, head = planned_flow(model, torch.randn(4, 8))
    assert (stem.path, head.path, blocks.count) == ("0", "4", 3)
    (residual,) = blocks.rounds[0]
    assert paths(residual.branch) == ["1.norm", "1.up", "1.down"]


def test_the_flow_is_read_from_places_and_not_from_words(tmp_path):
    """Reasons and evidence may be rewritten, and a plan saved: the picture stays."""
    model = nn.Sequential(nn.Linear(8, 8), *(PreNorm(8) for _ in range(3)), nn.Linear(8, 2))
    for recipe in ("auto", "kaiming_normal"):
        plan = fanin.plan(model, torch.randn(4, 8), recipe)
        silent = {name: replace(a, reason="", evidence=()) for name, a in plan.items()}
        fanin.Plan(plan.recipe, plan.model_type, silent).save(tmp_path / "plan.yaml")
        stem, blocks, head = plan_flow(fanin.Plan.load(tmp_path / "plan.yaml"))
        assert (stem.path, head.path, blocks.count) == ("0", "4", 3)
        assert paths(blocks.rounds[0][0].branch) == ["1.norm", "1.up", "1.down"]


def test_norms_behind_the_add_stand_on_the_stream():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    flow = planned_flow(nn.TransformerEncoder(layer, 2), torch.randn(2, 5, 16))
    (repeat,) = flow
    assert [type(item) for item in repeat.rounds[0]] == [Residual, Layer, Residual, Layer]
    assert repeat.rounds[1][1].path == "layers.1.norm1"


def test_a_projected_shortcut_is_known_by_its_use():
    flow = planned_flow(Downsampling(), torch.randn(2, 4, 8, 8))
    (residual,) = flow
    assert paths(residual.branch) == ["a", "b", "norm"]
    assert paths(residual.shortcut) == ["match"]


def test_every_layer_is_in_the_flow_once():
    for plan in (a_transformer_plan(), a_resnet_plan()):
        found = [a.parameter for x in layers_of(plan_flow(plan)) for a in x.assignments]
        assert sorted(found) == sorted(plan)


def test_a_plain_stack_folds_what_is_alike():
    rows = [an_assignment("0.weight", Kaiming(), (8, 4), "weight")]
    rows += [an_assignment(f"{i}.weight", Kaiming(), (8, 8), "weight") for i in range(2, 42, 2)]
    rows += [an_assignment("42.weight", Zeros(), (3, 8), "head")]
    flow = plan_flow(Plan("x", "MLP", {row.parameter: row for row in rows}))
    assert [type(item) for item in flow] == [Layer, Repeat, Layer]
    assert flow[1].count == 20


def test_other_schemes_or_shapes_are_not_folded():
    rows = [
        an_assignment("0.weight", Kaiming(), (8, 8), "weight"),
        an_assignment("1.weight", Normal(), (8, 8), "weight"),
        an_assignment("2.weight", Normal(), (9, 8), "weight"),
    ]
    flow = plan_flow(Plan("x", "MLP", {row.parameter: row for row in rows}))
    assert [type(item) for item in flow] == [Layer, Layer, Layer]


@pytest.mark.parametrize("plan", [a_transformer_plan(), a_resnet_plan(), a_resnet_plan(4, 1)])
def test_nothing_in_the_drawing_overlaps_or_sticks_out(plan):
    drawing = lay_out(plan_flow(plan))
    boxes = drawing.boxes
    for place, one in enumerate(boxes):
        assert one.x >= 0
        assert one.x + BOX_WIDTH <= drawing.width
        assert one.y + BOX_HEIGHT <= drawing.height
        for other in boxes[:place]:
            apart_x = abs(one.x - other.x) >= BOX_WIDTH
            apart_y = abs(one.y - other.y) >= BOX_HEIGHT
            assert apart_x or apart_y
    for frame in drawing.frames:
        assert frame.x >= 0
        assert frame.x + frame.width <= drawing.width


def test_a_deep_model_is_drawn_small():
    shallow, deep = (lay_out(plan_flow(a_transformer_plan(n))) for n in (2, 100))
    assert (deep.height, len(deep.boxes)) == (shallow.height, len(shallow.boxes))
    assert len(deep.adds) == 2


def test_page_shows_counts_boxes_details_and_advice():
    plan = a_resnet_plan()
    reader = assert_sound(plan_page(plan))
    assert "Lower the learning rate." in reader.text
    boxes = [a for _, a in reader.elements if "data-box" in a]
    details = [a for _, a in reader.elements if "data-details" in a]
    assert len(boxes) == len(details)
    assert all(a["tabindex"] == "0" and a["role"] == "button" for a in boxes)
    assert sum("hidden" not in a for a in details) == 1
    assert "its rows are multiplied by it" in reader.text
    # Kaiming before relu: std · √fan_in = √2.
    assert "std · √fan_in = 1.41" in reader.text


def test_predicted_scales_stand_in_the_picture():
    plan = a_transformer_plan(blocks=2)
    layers = tuple(replace(a_signal(i, 0.5 + i), weight=f"h.{i}.attn.qkv.weight") for i in range(2))
    signals = Signals("predicted", {}, layers)
    reader = assert_sound(plan_page(plan, signals))
    assert reader.text.count("RMS 0.500") == 3  # in the box, its title, and the details
    assert "predicted: output RMS 0.500 to 1.50" in reader.text
    assert "RMS 0.500" not in assert_sound(plan_page(plan)).text


def test_page_folds_repeats_and_names_every_parameter():
    plan = a_transformer_plan(blocks=3)
    reader = assert_sound(plan_page(plan))
    assert "×3" in reader.text
    assert "h.*.attn.qkv.weight" in reader.text
    for name in plan:
        assert name in reader.text


@pytest.mark.parametrize("name", [HOSTILE, MARKUP, "{{ 7*7 }}"])
def test_names_are_text(name):
    row = an_assignment(f"{name}.weight", Normal(), (2, 2), name, reason=name)
    reader = assert_sound(plan_page(Plan(name, name, {row.parameter: row}, advice=(name,))), [name])
    assert len(reader.all("script")) == 1


@pytest.mark.parametrize(
    "plan",
    [
        Plan("x", "Empty", {}),
        Plan("x", "Scalar", {"a": an_assignment("a", Ones(), (), "gate")}),
        Plan("x", "Vector", {"bias": an_assignment("bias", Zeros(), (4,), "bias")}),
    ],
)
def test_small_plans_have_pages(plan):
    assert_sound(plan_page(plan))


def test_ledger_page_holds_every_tensor_and_digest():
    ledger = a_ledger()
    reader = assert_sound(ledger_page(ledger))
    assert "3 initialised, 3 kept, 1 left." in reader.text
    for name, entry in ledger.items():
        assert name in reader.text
        assert entry.digest in reader.text
    assert "0.0199 to 0.0201" in reader.text


def test_saving_needs_html(tmp_path):
    save_plan(a_resnet_plan(), tmp_path / "plan.html")
    save_ledger(a_ledger(), tmp_path / "ledger.html")
    with pytest.raises(OutputError, match="unknown extension"):
        save_plan(a_resnet_plan(), tmp_path / "plan.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ledger.html", "plan.html"]
