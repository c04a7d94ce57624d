"""Arrangements of weights that give them their roles: one file a pattern."""
