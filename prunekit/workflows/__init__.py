"""What the commands do, from a recipe and run directories to a report; no terminal here."""
