"""What is typed: options that commands share, and those of one command where they fill a file."""
