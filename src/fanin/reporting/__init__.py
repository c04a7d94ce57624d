"""Reports of frozen values: terminal, HTML, JSON, SARIF and figures.  Nothing here sees a model."""

from fanin.reporting.diagnosis_json import load_diagnosis
from fanin.reporting.html import diagnosis_page, ledger_page, plan_page, study_page
from fanin.reporting.saving import save_diagnosis, save_ledger, save_plan, save_study

__all__ = [
    "diagnosis_page",
    "ledger_page",
    "load_diagnosis",
    "plan_page",
    "save_diagnosis",
    "save_ledger",
    "save_plan",
    "save_study",
    "study_page",
]
