"""Data sources: folders, arrays, tables, tar shards."""
