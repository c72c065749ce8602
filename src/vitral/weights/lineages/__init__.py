"""Checkpoint formats of other projects: how to detect each, infer its architecture and map its tensors."""
