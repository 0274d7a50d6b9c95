"""Weights and configs, in and out: one table of names, one wall per format."""
