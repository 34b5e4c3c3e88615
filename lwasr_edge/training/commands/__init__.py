"""One module for each `lwasr-train` command."""
