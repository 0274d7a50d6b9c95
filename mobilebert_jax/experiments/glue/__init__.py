"""All of GLUE in one command; see `python -m mobilebert_jax.glue`.

benchmark  the averages of its scores, the archive that its server takes
suite      its tasks as an experiment
"""
