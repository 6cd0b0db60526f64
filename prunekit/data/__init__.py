"""Data sets, the transforms between them and the network, and batches."""
