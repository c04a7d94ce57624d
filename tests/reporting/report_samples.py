"""Small values of every kind that a report shows, made by formula."""

import math
import random

import numpy as np

from fanin.axes import dense_axes
from fanin.checking.findings import Diagnosis, Finding, Severity
from fanin.comparing.study import LayerSnapshot, Study, Trial
from fanin.filling.ledger import Entry, Ledger, Status
from fanin.planning.assignment import Action, Assignment, Plan
from fanin.schemes import Kaiming, Normal, Ones, Zeros
from fanin.signals import Histogram, LayerSignal, Signals

HOSTILE = "<script>alert(1)</script>"
MARKUP = "[red]loud[/red]"

# recipe -> (start loss, floor, rate, gain per layer, weight std)
CHARACTERS = {
    "zeros": (2.303, 2.30, 0.0, 0.0, 0.0),
    "normal_0.01": (2.303, 1.9, 0.004, 0.08, 0.01),
    "torch": (2.31, 0.35, 0.012, 0.45, 0.072),
    "xavier_normal": (2.33, 0.12, 0.02, 0.72, 0.125),
    "kaiming_normal": (2.45, 0.03, 0.035, 1.0, 0.177),
    "orthogonal": (2.38, 0.05, 0.03, 0.75, 0.125),
    "auto": (2.42, 0.028, 0.036, 1.0, 0.177),
}


def histogram(values, bins=32):
    if np.ptp(values) == 0:
        return Histogram((float(values[0]),) * 2, (len(values),))
    counts, edges = np.histogram(values, bins=bins)
    return Histogram(tuple(map(float, edges)), tuple(map(int, counts)))


def a_finding(rule="FAN103", severity=Severity.WARNING, where="2.weight", **changes):
    values = {
        "name": "vanishing-activations",
        "message": "The RMS of the activations falls from 1.0 to 0.002 over 8 layers.",
        "measured": {"rms_first": 1.0, "rms_last": 0.002},
        "expected": "a ratio between 0.1 and 10",
        "fix": "Use fanin.initialize(model, x, 'kaiming_normal').",
        **changes,
    }
    return Finding(rule=rule, severity=severity, where=where, **values)


def a_layer(recipe, index, layers, rng):
    _, _, _, gain, std = CHARACTERS.get(recipe, (2.3, 0.5, 0.01, 0.9, 0.1))
    weights = rng.normal(0, std, 2000)
    rms = gain ** (index + 1)
    gradient_rms = 0.01 * gain ** (layers - 1 - index)
    return LayerSnapshot(
        weight=f"{2 * index}.weight",
        weight_start=histogram(weights),
        weight_end=histogram(weights * 1.1 + rng.normal(0, 0.02, 2000)),
        activation_start=histogram(rng.normal(0, rms, 2000)),
        gradient_start=histogram(rng.normal(0, gradient_rms, 2000)),
        activation_rms=rms * (1 + 0.05 * rng.standard_normal()),
        gradient_rms=gradient_rms * (1 + 0.05 * rng.standard_normal()),
    )


def a_trial(model="mlp", recipe="torch", seed=0, steps=200, depth=6, diverges_at=None, **changes):
    rng = np.random.default_rng([seed, len(model), sum(map(ord, recipe))])
    start, floor, rate, gain, _ = CHARACTERS.get(recipe, (2.3, 0.5, 0.01, 0.9, 0.1))
    pace = rate * (1 + 0.15 * rng.standard_normal())
    losses = [
        floor + (start - floor) * math.exp(-pace * t) * (1 + 0.04 * rng.standard_normal())
        for t in range(steps)
    ]
    if diverges_at is not None:
        losses = [*losses[:diverges_at], math.inf]
    held_out_steps = tuple(range(0, steps, max(1, steps // 20)))
    reached = [1 - 0.9 * (losses[min(s, len(losses) - 1)] / start) for s in held_out_steps]
    gradient_steps = tuple(range(0, steps, max(1, steps // 40)))
    values = {
        "model": model,
        "recipe": recipe,
        "learning_rate": 0.01,
        "seed": seed,
        "status": "finished" if diverges_at is None else "diverged",
        "losses": tuple(losses),
        "accuracies": tuple(max(0.0, 1 - 0.9 * loss / start) for loss in losses),
        "held_out_steps": held_out_steps,
        "held_out_losses": tuple(losses[min(s, len(losses) - 1)] for s in held_out_steps),
        "held_out_accuracies": tuple(min(1.0, max(0.0, a)) for a in reached),
        "gradient_steps": gradient_steps,
        "gradient_norms": {
            f"{2 * i}.weight": tuple(
                0.4 * gain ** (depth - i) * math.exp(-pace * t / 3) * (1 + 0.1 * random.random())
                for t in gradient_steps
            )
            for i in range(depth)
        },
        "layers": tuple(a_layer(recipe, i, depth, rng) for i in range(depth)),
        "findings": (a_finding(),) if gain < 0.6 else (),
        "seconds": 1.25,
        **changes,
    }
    return Trial(**values)


def a_study(models=("mlp", "cnn"), recipes=tuple(CHARACTERS), seeds=3, steps=200, **changes):
    random.seed(0)
    trials = tuple(
        a_trial(model, recipe, seed, steps)
        for model in models
        for recipe in recipes
        for seed in range(seeds)
    )
    settings = {
        "command": "fanin compare --seeds 3",
        "models": list(models),
        "descriptions": dict.fromkeys(models, "Sequential, 24,650 parameters"),
        "target_losses": dict.fromkeys(models, 1.15),
        "recipes": list(recipes),
        "seeds": list(range(seeds)),
        "steps": steps,
        "batch_size": 64,
        "optimizer": "adam",
        "data": "digits",
        "python": "3.11.2",
        "torch": "2.13.0",
    }
    return Study(trials=trials, settings={**settings, **changes})


def a_signal(index, rms, layers=8):
    return LayerSignal(
        weight=f"{2 * index}.weight",
        module=f"{2 * index}",
        kind="linear",
        shape=(64, 64),
        fan_in=64.0,
        fan_out=64.0,
        weight_mean=0.001,
        weight_std=0.0722,
        output=10 + 2 * index,
        activation="relu" if index < layers - 1 else "linear",
        activated=11 + 2 * index,
        output_rms=rms,
        activated_rms=rms * 0.7,
        gradient_rms=1e-3 * 0.5 ** (layers - index),
        weight_gradient_rms=1e-4,
        dead_share=0.02 * index,
        saturated_share=None,
    )


def a_diagnosis(findings=None, layers=8):
    if findings is None:
        findings = (
            a_finding("FAN101", Severity.ERROR, "0.weight", name="equal-units"),
            a_finding(),
            a_finding("FAN108", Severity.NOTE, "", name="loss-far-from-chance"),
        )
    rows = tuple(a_signal(i, 0.5**i, layers) for i in range(layers))
    signals = Signals("measured", {}, rows, loss=2.31, classes=10, label_entropy=2.3, samples=64)
    return Diagnosis("Sequential", tuple(findings), signals, ("FAN101", "FAN103", "FAN108"))


def an_assignment(name, scheme, shape, role, reason="because of its role", **changes):
    axes = dense_axes(shape)
    std = None if scheme is None else scheme.expected(shape, axes).std
    return Assignment(
        parameter=name,
        scheme=scheme,
        axes=changes.pop("axes", axes),
        role=role,
        reason=reason,
        evidence=("its rows are multiplied by it", "its name says so"),
        std=std,
        shape=shape,
        **changes,
    )


def a_transformer_plan(blocks=12, width=32):
    """A pre-norm transformer: two branches a block, a tied head."""
    d, rows = width, []
    rows.append(an_assignment("wte.weight", Normal(std=0.02), (50, d), "embedding"))
    rows.append(an_assignment("wpe.weight", Normal(std=0.01), (16, d), "position table"))
    for block in range(blocks):
        at = f"h.{block}"
        deep = Normal(std=0.02 / math.sqrt(2 * blocks))
        rows += [
            an_assignment(f"{at}.ln_1.weight", Ones(), (d,), "norm scale"),
            an_assignment(f"{at}.ln_1.bias", Zeros(), (d,), "norm bias"),
            an_assignment(f"{at}.attn.qkv.weight", Normal(std=0.02), (3 * d, d), "packed q/k/v"),
            an_assignment(f"{at}.attn.qkv.bias", Zeros(), (3 * d,), "bias"),
            an_assignment(f"{at}.attn.proj.weight", deep, (d, d), "attention out"),
            an_assignment(f"{at}.attn.proj.bias", Zeros(), (d,), "bias"),
            an_assignment(f"{at}.ln_2.weight", Ones(), (d,), "norm scale"),
            an_assignment(f"{at}.ln_2.bias", Zeros(), (d,), "norm bias"),
            an_assignment(f"{at}.mlp.up.weight", Normal(std=0.02), (4 * d, d), "up projection"),
            an_assignment(f"{at}.mlp.down.weight", deep, (d, 4 * d), "down projection"),
        ]
    rows.append(an_assignment("ln_f.weight", Ones(), (d,), "norm scale"))
    rows.append(
        an_assignment(
            "head.weight", None, (50, d), "head", action=Action.TIED, tied_to="wte.weight"
        )
    )
    return Plan("gpt2", "Transformer", {row.parameter: row for row in rows})


def a_resnet_plan(stages=2, blocks=3):
    """Residual blocks of two convolutions, the first of each stage with a shortcut's weights."""
    rows = [an_assignment("conv1.weight", Kaiming(), (8, 3, 3, 3), "weight")]
    rows.append(an_assignment("bn1.weight", Ones(), (8,), "norm scale"))
    for stage in range(1, stages + 1):
        for block in range(blocks):
            at, c = f"layer{stage}.{block}", 8 * stage
            rows += [
                an_assignment(f"{at}.conv1.weight", Kaiming(), (c, c, 3, 3), "weight"),
                an_assignment(f"{at}.bn1.weight", Ones(), (c,), "norm scale"),
                an_assignment(f"{at}.conv2.weight", Kaiming(), (c, c, 3, 3), "residual writer"),
                an_assignment(f"{at}.bn2.weight", Zeros(), (c,), "norm scale"),
            ]
            if block == 0:
                rows += [
                    an_assignment(f"{at}.downsample.0.weight", Kaiming(), (c, c, 1, 1), "weight"),
                    an_assignment(f"{at}.downsample.1.weight", Ones(), (c,), "norm scale"),
                ]
    rows.append(an_assignment("fc.weight", Kaiming(), (10, 16), "head"))
    rows.append(an_assignment("fc.bias", Zeros(), (10,), "bias"))
    return Plan(
        "kaiming_normal",
        "ResNet",
        {row.parameter: row for row in rows},
        advice=("Lower the learning rate.",),
    )


def a_ledger():
    schemes = {"initialised": Normal(std=0.02), "kept": None, "left": None}
    entries = {
        f"h.{i}.{name}.weight": Entry(
            Status(status),
            schemes[status],
            "matches a pattern of keep" if status == "kept" else "weight of a layer",
            0.02 if status == "initialised" else None,
            1e-4 * i,
            0.0199 + 1e-4 * i,
            f"{i:032x}",
        )
        for i in range(3)
        for name, status in (("up", "initialised"), ("down", "kept"))
    }
    entries["steps"] = Entry(Status.LEFT, None, "an integer buffer", None, None, None, "0" * 32)
    return Ledger("gpt2", 7, entries)
