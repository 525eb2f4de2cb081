"""Sections 2 and 3 of the paper on whole checkpoints: what settings ask of their tensors, and what comes of it."""
