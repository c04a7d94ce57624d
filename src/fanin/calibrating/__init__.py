"""Recipes that measure on a batch: one file each, found by ``fanin.planning.recipes``.

A base recipe's numbers are drawn into a copy of the model; what is measured there becomes factors
in a new plan.  The user's model is never written.
"""
