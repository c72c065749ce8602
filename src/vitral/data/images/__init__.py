"""From bytes to pixels to a model's input: decoding and preprocessing."""
