"""A trained model leaves Vitral: one file a backend, and a report that compares the file with the model."""
