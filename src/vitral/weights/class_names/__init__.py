"""Names of the classes that checkpoints without names are known to tell apart."""
