"""Losses as functions, with formula and equation number."""
