"""Word error rates: conditions of a microphone, phrase lists and language models."""
