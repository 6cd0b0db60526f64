"""Procedural street scenes: a camera in a street, things in metres around it, drawn from far to near."""
