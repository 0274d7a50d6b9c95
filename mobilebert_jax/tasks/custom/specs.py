"""Tasks on the user's own text and tables."""

from mobilebert_jax.tasks.custom.choice import OWN_CHOICE
from mobilebert_jax.tasks.custom.classification import OWN_CLASSIFICATION
from mobilebert_jax.tasks.custom.qa import OWN_QA
from mobilebert_jax.tasks.custom.regression import OWN_REGRESSION
from mobilebert_jax.tasks.custom.tagging import OWN_TAGGING
from mobilebert_jax.tasks.pretraining.masked_lm import MASKED_LM
from mobilebert_jax.tasks.pretraining.next_sentence import NEXT_SENTENCE
from mobilebert_jax.tasks.pretraining.task import PRETRAINING

SPECS = (
  PRETRAINING,
  MASKED_LM,
  NEXT_SENTENCE,
  OWN_CHOICE,
  OWN_CLASSIFICATION,
  OWN_QA,
  OWN_REGRESSION,
  OWN_TAGGING,
)
