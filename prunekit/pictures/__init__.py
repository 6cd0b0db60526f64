"""Pictures of labels and charts: legends, and names in letters that a font has."""
