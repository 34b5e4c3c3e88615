"""Compression of a reference into students: layer selection, pruning, equalisation, quantisation-aware training."""
