"""Formats of other projects: how each is recognised, what it says of the model, and where each tensor lies."""
