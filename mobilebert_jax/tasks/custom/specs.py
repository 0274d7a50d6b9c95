"""Tasks on the user's own text and tables."""

from mobilebert_jax.tasks.custom.choice import CUSTOM_CHOICE
from mobilebert_jax.tasks.custom.classification import (
  CUSTOM_CLASSIFICATION,
  CUSTOM_REGRESSION,
)
from mobilebert_jax.tasks.custom.qa import CUSTOM_QA
from mobilebert_jax.tasks.custom.tagging import CUSTOM_TAGGING
from mobilebert_jax.tasks.pretraining.masked_lm import MASKED_LM
from mobilebert_jax.tasks.pretraining.next_sentence import NEXT_SENTENCE
from mobilebert_jax.tasks.pretraining.task import PRETRAINING

SPECS = (
  PRETRAINING,
  MASKED_LM,
  NEXT_SENTENCE,
  CUSTOM_CHOICE,
  CUSTOM_CLASSIFICATION,
  CUSTOM_QA,
  CUSTOM_REGRESSION,
  CUSTOM_TAGGING,
)
