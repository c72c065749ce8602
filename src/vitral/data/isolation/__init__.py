"""Decodes images in processes of their own, with limits and without access to files and network."""
