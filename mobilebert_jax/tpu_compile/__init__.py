"""Compiles a run's steps for TPU slices that are not at hand, and counts."""
