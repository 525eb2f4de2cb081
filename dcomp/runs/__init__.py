"""Whole runs of a recipe: one, many points of a grid, and the demonstration."""
