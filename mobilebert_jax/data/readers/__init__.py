"""Readers of files as they are published."""
