"""Criteria: which units of a group go first, and at what price. `registry.CRITERIA` has them by name."""
