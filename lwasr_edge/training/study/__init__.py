"""Comparisons, shape search, cost plans and synthetic speech."""
