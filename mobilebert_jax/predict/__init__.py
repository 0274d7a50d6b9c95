"""The command that predicts: `python -m mobilebert_jax.predict TASK`.

From Python, `mobilebert_jax.pipelines.pipeline` does the same.
"""
