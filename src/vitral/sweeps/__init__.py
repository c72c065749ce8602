"""Sweeps: many runs of one recipe; and comparisons of finished runs."""
