"""Latency, arithmetic and quantisation."""
