"""Other recognisers on the same recordings."""
