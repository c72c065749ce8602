"""One module for each command: its arguments, parsed and checked without importing PyTorch."""
