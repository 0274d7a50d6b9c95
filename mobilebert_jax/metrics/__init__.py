"""Scores of predictions, one function a benchmark asks for."""
