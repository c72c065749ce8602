"""Decoding and preprocessing: from bytes to pixels to a model's input."""
