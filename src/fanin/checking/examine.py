"""``check``: measure a model and let the rules look at it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from fanin.checking.case import Case
from fanin.checking.findings import Diagnosis, Finding, Severity
from fanin.checking.rule import Needs, Rule
from fanin.checking.selecting import selected
from fanin.errors import DataError, RecordError
from fanin.measuring.losses import Loss
from fanin.measuring.measurement import measured, weight_signals
from fanin.measuring.simulation import simulate
from fanin.planning.assignment import Plan
from fanin.propagation.prediction import predict_from
from fanin.propagation.tracing import Tracer

_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


def check(
    model: nn.Module,
    inputs: Any = None,
    *,
    target: Any = None,
    loss: Loss = None,
    plan: Plan | None = None,
    select: Sequence[str] | str | None = None,
    ignore: Sequence[str] | str | None = None,
    histograms: bool = False,
    predict: bool | None = None,
) -> Diagnosis:
    """Say what is wrong with a model's start, and how to mend it.

    Runs the model once forward and once backward on a batch (and a few simulated steps on copies
    of the weights where something looks stuck), leaves it exactly as found, and lets every rule
    look. Without inputs only the rules run that read weights; without a target those that need a
    loss are left out.

    Args:
        model: any module.
        inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments. A batch
            of 32 or more samples of the real data says most.
        target: as for ``fanin.measure``.
        loss: as for ``fanin.measure``.
        plan: also verify that the weights are those of this plan, within sampling error.
        select: only these rules: codes, names, or beginnings of codes (``"FAN1"``).
        ignore: not these rules.
        histograms: keep histograms of weights, outputs and gradients, for reports.
        predict: also predict every layer's signals from the graph (``fanin.predict``), to be
            shown beside what was measured. None: yes, unless ``select`` asks for certain rules.

    Raises:
        UnknownNameError: a rule that does not exist.
        DataError: inputs or target that cannot be used.
        RecordError: the model raised.
        PlanError: the plan was made for another model.

    Examples:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> _ = nn.init.ones_(net[0].weight), nn.init.ones_(net[2].weight)
        >>> diagnosis = check(net, torch.randn(64, 4), target=torch.arange(64) % 3, select="FAN201")
        >>> [(f.rule, f.name, f.where) for f in diagnosis.findings][0]
        ('FAN201', 'equal-units', '0.weight')
    """
    rules = selected(select, ignore)
    if inputs is None and (target is not None or loss is not None):
        raise DataError("check was given a target or a loss, but no inputs. Pass inputs=… as well.")
    forecast = inputs is not None and (select is None if predict is None else predict)
    tracer = Tracer(model, weights=True) if forecast and isinstance(model, nn.Module) else None
    case = _case(model, inputs, target, loss, plan, histograms, tracer)
    able = [rule for rule in rules if _can_run(rule, case)]
    findings: list[Finding] = []
    for rule in able:
        findings.extend(rule.find(case))
    findings.sort(key=lambda finding: (_ORDER[finding.severity], finding.rule))
    findings = _each_once(findings)
    signals, predicted = case.signals, None
    unfinished = [name for name, p in signals.parameters.items() if not p.finite]
    if tracer is not None and unfinished:
        note = f"no predictions: {unfinished[0]!r} holds NaN or infinity"
        signals = replace(signals, notes=(*signals.notes, note))
    elif tracer is not None:
        try:
            # From the very run that was measured, which left the weights as they were.
            predicted = predict_from(tracer.trace, model)
        except Exception as error:
            if predict:
                raise
            # What was measured stands on its own: a prediction that fails is said, not fatal.
            note = f"no predictions: {type(error).__name__}: {error}"
            signals = replace(signals, notes=(*signals.notes, note))
    return Diagnosis(
        type(model).__name__,
        tuple(findings),
        signals,
        tuple(rule.code for rule in able),
        predicted,
    )


def _case(
    model: nn.Module,
    inputs: Any,
    target: Any,
    loss: Loss,
    plan: Plan | None,
    histograms: bool,
    tracer: Tracer | None,
) -> Case:
    if not isinstance(model, nn.Module):
        raise RecordError(
            f"{type(model).__name__} is not a torch.nn.Module. Pass the module itself."
        )
    if inputs is None:
        return Case(model, weight_signals(model), plan=plan)
    found = measured(model, inputs, target=target, loss=loss, histograms=histograms, tracer=tracer)
    steps = partial(simulate, model, inputs, target=target, loss=loss)
    return Case(model, found.signals, found.graph, found.roles, plan, steps)


def _each_once(findings: Sequence[Finding]) -> list[Finding]:
    """The first finding of a rule at a place: several inputs may share one stream's fault."""
    first = {(finding.rule, finding.where): finding for finding in reversed(findings)}
    return [f for f in findings if first[f.rule, f.where] is f]


def _can_run(rule: Rule, case: Case) -> bool:
    match rule.needs:
        case Needs.WEIGHTS:
            return True
        case Needs.BATCH:
            return case.graph is not None
        case Needs.LOSS:
            return case.signals.loss is not None
        case Needs.PLAN:
            return case.plan is not None
