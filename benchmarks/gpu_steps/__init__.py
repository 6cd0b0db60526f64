"""The steps of `gpu.py`: what each measures, what it needs, and its table."""
