"""Training: the loop and everything it calls."""
