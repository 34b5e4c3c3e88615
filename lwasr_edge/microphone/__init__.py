"""Recording devices and the live listener (needs the extra `mic`)."""
