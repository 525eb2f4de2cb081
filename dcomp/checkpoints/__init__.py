"""Checkpoints: named tensors and metadata, in one file or in shards."""
