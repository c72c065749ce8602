"""The folder of a training run: metrics, trackers, curves, predictions and report."""
