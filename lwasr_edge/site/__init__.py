"""A company's own recordings: read a folder of them, measure the model on it, record more, and erase it."""
