"""Evaluators over many data sets: kNN, linear probe, few-shot, fine-tuning, VTAB-1k, ImageNet's test sets."""
