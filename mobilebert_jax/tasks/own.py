"""Tasks on the user's own text and tables."""

from mobilebert_jax.tasks.masked_lm import MASKED_LM
from mobilebert_jax.tasks.own_classification import OWN_CLASSIFICATION
from mobilebert_jax.tasks.own_regression import OWN_REGRESSION

SPECS = (MASKED_LM, OWN_CLASSIFICATION, OWN_REGRESSION)
