"""Texts of recordings from tables of many forms."""
