"""Training of the tagger that writes capitals and punctuation."""
