"""Model cards, installed models, and fetching."""
