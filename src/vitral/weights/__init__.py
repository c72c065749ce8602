"""Models on disk: loading, saving, converting, and adapting to new tasks."""
