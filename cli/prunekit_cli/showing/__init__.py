"""What a terminal shows: tables, numbers, progress, and the reports that fill a file."""
