"""All of GLUE in one command; see `python -m mobilebert_jax.glue`."""
