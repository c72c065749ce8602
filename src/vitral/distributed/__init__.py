"""Distributed training and evaluation: collectives, DDP, FSDP2, sharded checkpoints."""
