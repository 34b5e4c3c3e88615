"""Training methods, adaptation and data preparation."""
