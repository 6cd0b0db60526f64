"""Pictures of labels: legends, and names in letters that a font has."""
