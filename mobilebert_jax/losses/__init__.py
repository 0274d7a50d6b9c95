"""Losses with the semantics of transformers."""
