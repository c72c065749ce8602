"""Class names of data sets, for checkpoints that do not store them."""
