"""From samples to tokens: recent audio, its levels and pauses, the live pass and the full-context pass."""
