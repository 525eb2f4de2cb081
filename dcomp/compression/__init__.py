"""Sections 2 and 3 of the paper on checkpoints: settings choose tensors, and the tensors change."""
