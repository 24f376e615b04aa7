"""Overlays, plots, tables and the report page."""
