"""Search over fields of a config; see `python -m mobilebert_jax.sweep`."""
