"""Several processes that train or evaluate together: collectives, DDP, FSDP2, sharded checkpoints."""
