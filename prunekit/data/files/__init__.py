"""Files of a data set on disk: patterns, what lies where, and which belong together."""
