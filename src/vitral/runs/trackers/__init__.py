"""Experiment trackers that a run logs to, one file each."""
