"""Folding: what only training needs becomes plain convolutions, and the difference is measured."""
