"""Checking and packing data, and finding near-duplicates."""
