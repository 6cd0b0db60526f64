"""Label pictures with a model: find them, run it, draw and write what it says, and count and time all of that."""
