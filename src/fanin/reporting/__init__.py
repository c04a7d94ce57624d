"""Reports of frozen values: terminal, HTML, JSON, SARIF and figures.  Nothing here sees a model."""

from fanin.reporting.html import study_page

__all__ = ["study_page"]
