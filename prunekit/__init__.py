"""Prune, fold and export semantic-segmentation networks. Importing this package does not import torch."""

__version__ = "0.1.0"
