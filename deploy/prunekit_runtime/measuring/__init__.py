"""Measuring on the device: latency, a benchmark of a model, and the golden check of its outputs."""
