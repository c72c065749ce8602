"""Checkpoints: saving, resuming, and settings that may change in between."""
