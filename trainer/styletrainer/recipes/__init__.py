"""Recipes: one file a system, read top to bottom, no inheritance."""
