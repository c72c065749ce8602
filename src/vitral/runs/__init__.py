"""The folder of a training run: its record, trackers, curves, predictions and report."""
