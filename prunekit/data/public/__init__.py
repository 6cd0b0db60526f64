"""Public data sets in the layouts that their owners publish."""
