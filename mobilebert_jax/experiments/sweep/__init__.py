"""Search over fields of a config; see `python -m mobilebert_jax.sweep`.

grid    every combination of the values of some fields
search  the combinations as an experiment, with its table and picture
"""
