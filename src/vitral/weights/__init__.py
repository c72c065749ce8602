"""Models on disk, and their weights for new tasks."""
