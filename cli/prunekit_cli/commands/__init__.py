"""The commands, one file each: options, examples, and what is shown of the library's report."""
