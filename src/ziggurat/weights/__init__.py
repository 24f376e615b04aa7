"""Weights: what is published and where, downloads, and the Hugging Face hub."""
