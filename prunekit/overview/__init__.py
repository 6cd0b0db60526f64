"""What runs there are and how far each has come, from their small files alone: no torch, no weights read."""
