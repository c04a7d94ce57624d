"""Moments forward and backward through the operations of a graph, without data or weights."""
