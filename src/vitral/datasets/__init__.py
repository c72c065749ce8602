"""Named data sets and tasks: the registry, and their readers."""
