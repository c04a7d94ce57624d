"""Values written to files; the extension says in which form."""

import json
import os
from pathlib import Path

from fanin.checking.findings import Diagnosis
from fanin.comparing.study import Study
from fanin.filling.ledger import Ledger
from fanin.planning.assignment import Plan
from fanin.reporting.diagnosis_json import diagnosis_json
from fanin.reporting.html import diagnosis_page, ledger_page, plan_page, study_page
from fanin.reporting.output import save_as
from fanin.reporting.sarif import diagnosis_sarif
from fanin.signals import Signals

_Path = str | os.PathLike[str]


def save_diagnosis(diagnosis: Diagnosis, path: _Path) -> Path:
    """Write a diagnosis as ``.html``, ``.json`` or ``.sarif``.

    Raises:
        OutputError: another extension, or the file cannot be written; nothing is left behind.
    """
    forms = {".html": diagnosis_page, ".json": diagnosis_json, ".sarif": diagnosis_sarif}
    return save_as(diagnosis, path, forms)


def save_plan(plan: Plan, path: _Path, signals: Signals | None = None) -> Path:
    """Write the page of a plan as ``.html``; ``Plan.save`` writes YAML too.

    Args:
        plan: the plan.
        path: the file.
        signals: of ``fanin.predict`` under this plan, to show in the picture.

    Raises:
        OutputError: another extension, or the file cannot be written; nothing is left behind.
    """
    return save_as(plan, path, {".html": lambda value: plan_page(value, signals)})


def save_ledger(ledger: Ledger, path: _Path) -> Path:
    """Write the page of a ledger as ``.html``.

    Raises:
        OutputError: another extension, or the file cannot be written; nothing is left behind.
    """
    return save_as(ledger, path, {".html": ledger_page})


def save_study(study: Study, path: _Path) -> Path:
    """Write a study as ``.html`` (the report) or ``.json`` (its numbers, for ``Study.load``).

    Raises:
        OutputError: another extension, or the file cannot be written; nothing is left behind.
    """
    return save_as(study, path, {".html": study_page, ".json": _study_json})


def _study_json(study: Study) -> str:
    return json.dumps(study.to_json(), allow_nan=False, ensure_ascii=False)
