"""Run a model once, untouched, and read its signals off real tensors."""

from fanin.measuring.measurement import Measurement, measure, measured, weight_signals
from fanin.measuring.simulation import Simulation, simulate
from fanin.signals import (
    AttentionSignal,
    Histogram,
    LayerSignal,
    ParameterSignal,
    Signals,
    TensorSignal,
)

__all__ = [
    "AttentionSignal",
    "Histogram",
    "LayerSignal",
    "Measurement",
    "ParameterSignal",
    "Signals",
    "Simulation",
    "TensorSignal",
    "measure",
    "measured",
    "simulate",
    "weight_signals",
]
