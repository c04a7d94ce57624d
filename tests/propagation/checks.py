"""Prediction beside measurement: the same model, weights redrawn, squares averaged."""

from collections.abc import Callable

import torch
from torch import nn

import fanin


def predicted_and_measured(
    build: Callable[[], nn.Module], inputs: object, draws: int = 8, recipe: str | None = None
) -> list[tuple[fanin.Signals | object, float, float, float | None, float | None]]:
    """Rows of (signal, predicted RMS, measured RMS, predicted and measured gradient RMS).

    Without a recipe the weights of one build are what is predicted from, chance and all.
    """
    torch.manual_seed(0)
    model = build()
    plan = None if recipe is None else fanin.plan(model, inputs, recipe)
    prediction = fanin.predict(model, inputs, plan)
    forward: dict[int, list[float]] = {}
    backward: dict[int, list[float]] = {}
    for seed in range(draws):
        torch.manual_seed(seed)
        drawn = build()
        if plan is not None:
            fanin.apply(plan, drawn, seed=seed)
        found = fanin.measure(drawn, inputs)
        for tensor, signal in found.tensors.items():
            if signal.rms is not None:
                forward.setdefault(tensor, []).append(signal.rms**2)
            if signal.gradient_rms is not None:
                backward.setdefault(tensor, []).append(signal.gradient_rms**2)
    rows = []
    for tensor, signal in prediction.tensors.items():
        if tensor not in forward:
            continue
        rms = (sum(forward[tensor]) / len(forward[tensor])) ** 0.5
        squares = backward.get(tensor)
        gradient = (sum(squares) / len(squares)) ** 0.5 if squares else None
        rows.append((signal, signal.rms, rms, signal.gradient_rms, gradient))
    return rows


IGNORED = ("empty_like", "new_empty", "empty", "detach")


def assert_predicted(
    build: Callable[[], nn.Module],
    inputs: object,
    *,
    forward: float = 0.05,
    backward: float | None = 0.1,
    draws: int = 8,
    sampled: bool = False,
    skip: tuple[str, ...] = (),
    recipe: str | None = None,
) -> None:
    """Every main output of every operation within the tolerances, none sampled unless allowed."""
    seen = set()
    for signal, rms, truth, gradient, gradient_truth in predicted_and_measured(
        build, inputs, draws, recipe
    ):
        key = (signal.operation, signal.module, signal.shape)
        statistic = signal.operation.startswith("native_") and any(k[:2] == key[:2] for k in seen)
        seen.add(key)
        if signal.operation in (*IGNORED, *skip) or statistic:
            continue
        where = f"{signal.operation} of {signal.module!r} {signal.shape}"
        assert sampled or not signal.sampled, f"{where} was sampled"
        assert abs(rms - truth) <= forward * truth, f"{where}: RMS {rms:.4g}, measured {truth:.4g}"
        if gradient_truth is not None and backward is not None:
            assert gradient is not None, f"{where}: no gradient predicted"
            assert abs(gradient - gradient_truth) <= backward * gradient_truth, (
                f"{where}: gradient RMS {gradient:.4g}, measured {gradient_truth:.4g}"
            )


def forward_only(build: Callable[[], nn.Module], inputs: object, **settings: object) -> None:
    """The same, of the signals alone: for inputs too few to average a gradient."""
    assert_predicted(build, inputs, backward=None, **settings)
