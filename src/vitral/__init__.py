"""Vitral: the Vision Transformer as one finished tool."""

__version__ = "0.1.0"
