"""Checks before a long run: what would spoil it, measured on its own data and model."""
