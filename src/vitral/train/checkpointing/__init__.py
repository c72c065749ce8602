"""Checkpoints: saving, resuming, and what may change between the two."""
