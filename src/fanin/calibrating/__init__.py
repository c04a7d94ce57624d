"""Recipes that measure on a batch: one file each, found by ``fanin.planning.recipes``.

A base recipe's numbers are drawn into tensors that stand in the model's place while it runs; what
is measured becomes factors in a new plan.  The user's tensors are never written.
"""
