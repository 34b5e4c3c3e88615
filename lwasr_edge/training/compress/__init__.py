"""How a student is derived from its reference: layer selection, pruning, equalisation."""
