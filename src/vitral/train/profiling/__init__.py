"""Profiling of a run: time of each stage, throughput, memory, and the bottleneck."""
