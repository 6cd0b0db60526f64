"""Labels: how masks and class tables say which pixel is what, and how often each class occurs."""
