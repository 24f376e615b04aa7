"""Prediction and evaluation; needs no training library."""
