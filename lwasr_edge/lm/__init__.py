"""Making language models: from ARPA files and from text. Using them is in `lwasr_edge.decoding`."""
