"""Models on this machine: cards, installed models, downloads, and opening a model file."""
