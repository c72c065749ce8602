"""Metrics and evaluators on predictions and features, one file each."""
