"""Counts what a compiled XLA program computes."""
