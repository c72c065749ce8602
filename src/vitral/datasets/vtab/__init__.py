"""VTAB-1k (Zhai et al., arXiv 1910.04867): nineteen tasks of 1,000 examples, read from their authors' files."""
