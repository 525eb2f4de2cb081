"""Pruning: which weights become zero, and when (paper, section 2). Pure functions on numpy arrays."""
