"""`vitral bench`: speed and memory of models."""
