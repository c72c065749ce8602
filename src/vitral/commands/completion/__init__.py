"""Completion of commands, recipes, flags and paths in a shell."""
