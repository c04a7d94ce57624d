"""Reports as HTML: one file each, which works without a network, on a phone and on paper."""

from fanin.reporting.html.study_page import study_page

__all__ = ["study_page"]
