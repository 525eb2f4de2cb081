"""Checkpoints <-> .dcz files, as FORMAT.md in this folder specifies them."""
