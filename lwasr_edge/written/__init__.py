"""Recognised words as people write them: capitals, full stops, commas, question marks, and digits."""
