"""Measurements of this project: `python benchmarks/run.py` takes them and writes RESULTS.md."""
