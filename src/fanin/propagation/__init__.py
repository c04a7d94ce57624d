"""Moments forward and backward through the operations of a graph, without data or weights."""

from fanin.propagation.prediction import predict

__all__ = ["predict"]
