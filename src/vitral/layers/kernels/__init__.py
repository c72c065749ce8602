"""Parts of a training step as GPU kernels; each is an operator with a reference in plain PyTorch."""
