"""One module for each command of `lwasr`."""
