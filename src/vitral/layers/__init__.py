"""Parts that a Vision Transformer can be built from."""
