"""Evaluators over data sets: kNN, linear probe, few-shot, retrieval, fine-tuning, VTAB-1k, ImageNet's test sets."""
