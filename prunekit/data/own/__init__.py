"""Data sets that users write in Python: found by name, trusted or refused, and held to a protocol."""
