"""Tasks on the user's own text and tables."""

from mobilebert_jax.tasks.masked_lm import MASKED_LM

SPECS = (MASKED_LM,)
