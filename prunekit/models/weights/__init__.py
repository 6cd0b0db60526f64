"""Weights trained elsewhere: read without running code, matched by names and shapes, taken whole or refused."""
