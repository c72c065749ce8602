"""Where samples come from: folders, arrays, tables, tar shards."""
