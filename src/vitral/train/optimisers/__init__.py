"""Optimisers that PyTorch does not have, or not as the papers use them: one file each."""
