"""What runs on the device: the preprocessing contract, runners, latency. Needs numpy and Python 3.10, nothing else."""
