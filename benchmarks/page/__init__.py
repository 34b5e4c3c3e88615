"""The parts of RESULTS.md: tables, plots, and the provenance of figures."""
