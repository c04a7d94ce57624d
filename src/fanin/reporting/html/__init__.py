"""Reports as HTML: one file each, which works without a network, on a phone and on paper."""

from fanin.reporting.html.diagnosis import diagnosis_page
from fanin.reporting.html.ledger import ledger_page
from fanin.reporting.html.plan import plan_page
from fanin.reporting.html.study import study_page

__all__ = ["diagnosis_page", "ledger_page", "plan_page", "study_page"]
