"""Train the same network from several recipes and seeds, and say which one is better."""

from fanin.comparing.compare_starts import compare
from fanin.comparing.curves import Curve, RecipeCurves
from fanin.comparing.scores import METRICS
from fanin.comparing.statistics import Comparison, Interval
from fanin.comparing.storage import prepare_folder
from fanin.comparing.study import LayerSnapshot, Study, Trial
from fanin.comparing.summary import ModelSummary, Row, Summary

__all__ = [
    "METRICS",
    "Comparison",
    "Curve",
    "Interval",
    "LayerSnapshot",
    "ModelSummary",
    "RecipeCurves",
    "Row",
    "Study",
    "Summary",
    "Trial",
    "compare",
    "prepare_folder",
]
