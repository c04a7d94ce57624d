"""The terminal views fit 80 columns, say the verdict, and show names as they are."""

import io
from dataclasses import replace

import pytest
import torch
from report_samples import (
    HOSTILE,
    MARKUP,
    a_diagnosis,
    a_finding,
    a_ledger,
    a_resnet_plan,
    a_study,
    a_transformer_plan,
    a_trial,
    an_assignment,
)
from rich.console import Console

import fanin
from fanin.checking import RULES
from fanin.checking.findings import Severity
from fanin.comparing.study import Study
from fanin.filling.ledger import Entry, Ledger, Status
from fanin.planning import RECIPES
from fanin.planning.assignment import Plan
from fanin.reporting import terminal
from fanin.reporting.numbers import number
from fanin.schemes import SCHEMES, Normal, scheme

ESCAPE = "\x1b[31mred"


def shown(show, *values, width=80):
    stream = io.StringIO()
    show(*values, console=Console(file=stream, width=width))
    return stream.getvalue()


def joined(text):
    """The text without the line breaks of wrapped cells."""
    return "".join(text.split())


STUDY = a_study(recipes=("zeros", "torch", "kaiming_normal"), seeds=3, steps=60)


@pytest.mark.parametrize(
    ("show", "values"),
    [
        (terminal.show_plan, (a_transformer_plan(),)),
        (terminal.show_plan, (a_resnet_plan(),)),
        (terminal.show_ledger, (a_ledger(),)),
        (terminal.show_diagnosis, (a_diagnosis(),)),
        (terminal.show_study, (STUDY,)),
        (terminal.show_schemes, (SCHEMES,)),
        (terminal.show_scheme, ("he_normal", scheme("he_normal"))),
        (terminal.show_recipes, (RECIPES,)),
        (terminal.show_rules, (RULES,)),
        (terminal.show_rule, (next(iter(RULES.values())),)),
    ],
)
def test_fits_80_columns(show, values):
    text = shown(show, *values)
    assert text.strip()
    assert max(len(line) for line in text.splitlines()) <= 80


def test_study_at_80_columns():
    wrapped = shown(terminal.show_study, STUDY).split("╭")[0]
    for row in STUDY.summary()["mlp"].rows:
        assert row.recipe in wrapped
    assert "held-out %" in wrapped
    assert "steps to 1.15" in wrapped
    assert "never" in wrapped


def test_study_says_the_answer_of_every_model():
    text = joined(shown(terminal.show_study, STUDY, width=500).replace("│", ""))
    for model in STUDY.summary().models:
        assert joined(model.sentence.removeprefix(f"{model.model}: ")) in text


def test_unfinished_and_empty_studies_say_so():
    part = Study((a_trial(),), {}, complete=False)
    assert "Not finished" in shown(terminal.show_study, part)
    assert "No trial is finished" in shown(terminal.show_study, Study(()))


def test_diverged_runs_are_counted():
    trials = (a_trial(seed=0), a_trial(seed=1, diverges_at=5))
    assert "1/2" in shown(terminal.show_study, Study(trials))


def test_plan_folds_blocks_and_gives_reasons():
    text = shown(terminal.show_plan, a_transformer_plan(blocks=32), width=120)
    assert "h.*.attn.qkv.weight ×32" in text
    assert "because of its role" in text
    assert len(text.splitlines()) < 60
    assert "advice: Lower the learning rate." in shown(terminal.show_plan, a_resnet_plan())


def test_ledger_counts_verdicts():
    text = shown(terminal.show_ledger, a_ledger(), width=120)
    assert "3 initialised, 3 kept, 1 left" in text
    assert "0.0199 to 0.0201 (0.0200)" in text


def test_diagnosis_ends_with_the_verdict():
    text = shown(terminal.show_diagnosis, a_diagnosis())
    assert text.strip().splitlines()[-1] == "Sequential: 1 error, 1 warning, 1 note"
    assert "fix: Use fanin.initialize" in text
    healthy = shown(terminal.show_diagnosis, a_diagnosis(findings=()))
    assert healthy.strip().splitlines()[-1] == "Sequential: nothing found"


def test_predictions_stand_beside_or_below_as_the_width_allows():
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[torch.nn.Linear(32, 32) for _ in range(3)])
    diagnosis = fanin.check(model, torch.randn(64, 32))
    told = diagnosis.predicted.layers[1].output_rms
    wide = shown(terminal.show_diagnosis, diagnosis, width=120).splitlines()
    assert wide[0].split().count("predicted") == 2
    assert number(told) in next(line for line in wide if line.startswith("1.weight"))
    narrow = shown(terminal.show_diagnosis, diagnosis, width=80).splitlines()
    place = next(k for k, line in enumerate(narrow) if line.startswith("1.weight"))
    assert number(told) in narrow[place + 1]


def test_a_deep_models_middle_is_left_out_but_for_what_is_blamed():
    findings = [a_finding(where="120.weight")]
    text = shown(terminal.show_diagnosis, a_diagnosis(findings, layers=120), width=120)
    table = text.split("warning")[0]
    assert "120.weight" in table
    assert "100.weight" not in table
    assert "… 40 more" in table


@pytest.mark.parametrize("name", [HOSTILE, MARKUP, "[/]", "[bold", ESCAPE])
def test_names_are_shown_as_they_are(name):
    spelt = name.replace("\x1b", "\\x1b")
    finding = a_finding(name, Severity.ERROR, name, name=name, message=name, fix=name)
    row = an_assignment(name, Normal(), (2, 2), "weight", reason=name)
    entry = Entry(Status.KEPT, None, name, None, 0.0, 1.0, "0")
    layer = replace(a_diagnosis().layers[0], weight=name)
    diagnosis = a_diagnosis([finding])
    diagnosis = replace(diagnosis, signals=replace(diagnosis.signals, layers=(layer,)))
    for show, value in (
        (terminal.show_plan, Plan(name, name, {name: row}, advice=(name,))),
        (terminal.show_ledger, Ledger(name, 0, {name: entry})),
        (terminal.show_diagnosis, diagnosis),
        (terminal.show_study, Study((a_trial(name, name), a_trial(name, "torch")))),
    ):
        text = shown(show, value, width=200)
        assert spelt in text
        assert "\x1b" not in text


def test_listings_name_everything_and_explain_it():
    schemes = shown(terminal.show_schemes, SCHEMES)
    assert all(name in schemes for name in SCHEMES)
    assert "normal_<number>" in schemes
    recipes = shown(terminal.show_recipes, RECIPES)
    assert all(name in recipes for name in RECIPES)
    rules = shown(terminal.show_rules, RULES)
    for code, rule in RULES.items():
        assert code in rules
        assert rule.name in rules
        page = shown(terminal.show_rule, rule)
        assert code in page
        assert len(page.splitlines()) > 8


def test_a_schemes_paragraphs_are_set_for_the_width():
    text = shown(terminal.show_scheme, "he_normal", scheme("he_normal"), width=60)
    lines = [line.rstrip() for line in text.splitlines()]
    assert "Use: ReLU-like layers." in lines
    assert "Paper: He et al., Delving Deep into Rectifiers, ICCV 2015." in lines
    assert "Args:" in lines
    assert any(line.startswith("    mode: ") for line in lines)
    # Full lines: none but the last of a paragraph ends where the next word would have fitted.
    body = [x for x in lines[3 : lines.index("Args:")] if x]
    ends = ("φ(z)², z ~ N(0, 1).", ".", "layers.")
    assert all(len(x) > 40 or x.endswith(ends) for x in body)


def test_colours_only_where_a_terminal_shows_them():
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system="standard")
    terminal.show_diagnosis(a_diagnosis(), console=console)
    assert "\x1b[" in stream.getvalue()
